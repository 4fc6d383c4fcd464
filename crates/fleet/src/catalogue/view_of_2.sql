-- Has a catalogue of version 2, which is only read, look like one of version 3.
CREATE TEMP VIEW file AS SELECT *, NULL AS removed FROM main.file;
