-- Puts a file, or a member of one, as a scan saw it, in the place of what was known before.
INSERT INTO file (
    path, member, name, device, inode, links, size, modified, changed, has_undo_record, class,
    length, resembles, problem, format, virtual_size, cluster_bits, l2_bits, dialect, producer,
    backing_name, backing_format, backing_time, is_encrypted, total, allocated, packed, zero,
    lost, leaked_bytes, is_deep, with_archives, looked,
    first_seen, last_seen, version1_since, is_stub,
    on_disk, shared, is_all_shared, is_cut, layout
) VALUES (
    :path, :member, :name, :device, :inode, :links, :size, :modified, :changed,
    :has_undo_record, :class, :length, :resembles, :problem, :format, :virtual_size,
    :cluster_bits, :l2_bits, :dialect, :producer, :backing_name, :backing_format,
    :backing_time, :is_encrypted, :total, :allocated, :packed, :zero, :lost, :leaked_bytes,
    :is_deep, :with_archives, :looked,
    :scan, :scan, iif(:format = 'qcow', :scan, NULL), 0,
    :on_disk, :shared, :is_all_shared, :is_cut, :layout
)
ON CONFLICT (path, member) DO UPDATE SET
    name = excluded.name, device = excluded.device, inode = excluded.inode, links =
    excluded.links, size = excluded.size, modified = excluded.modified, changed =
    excluded.changed, has_undo_record = excluded.has_undo_record, class = excluded.class,
    length = excluded.length, resembles = excluded.resembles, problem = excluded.problem,
    format = excluded.format, virtual_size = excluded.virtual_size, cluster_bits =
    excluded.cluster_bits, l2_bits = excluded.l2_bits, dialect = excluded.dialect, producer =
    excluded.producer, backing_name = excluded.backing_name, backing_format =
    excluded.backing_format, backing_time = excluded.backing_time, is_encrypted =
    excluded.is_encrypted, total = excluded.total, allocated = excluded.allocated, packed =
    excluded.packed, zero = excluded.zero, lost = excluded.lost, leaked_bytes =
    excluded.leaked_bytes, is_deep = excluded.is_deep, with_archives = excluded.with_archives,
    looked = excluded.looked,
    last_seen = excluded.last_seen, on_disk = excluded.on_disk, shared = excluded.shared,
    is_all_shared = excluded.is_all_shared, is_cut = excluded.is_cut, layout = excluded.layout,
    -- One that was version 1 before is no new one, and one that cannot be read may still be it.
    version1_since = CASE
        WHEN excluded.class = 'unreadable' AND gone IS NULL THEN version1_since
        WHEN gone IS NULL AND excluded.format = 'qcow'
            THEN coalesce(version1_since, excluded.version1_since)
        ELSE excluded.version1_since
    END,
    gone = NULL,
    is_stub = 0
RETURNING id
