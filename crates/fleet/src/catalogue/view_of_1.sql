-- Has a catalogue of version 1, which is only read, look like one of version 3.
CREATE TEMP VIEW file AS SELECT *, NULL AS on_disk, NULL AS shared, NULL AS is_all_shared,
    NULL AS is_cut, NULL AS layout, NULL AS reflink_of, NULL AS removed FROM main.file;
