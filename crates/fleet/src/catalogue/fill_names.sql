-- Gives names that were met as further ones what the name has under which the file was read.
UPDATE file SET
    (class, length, resembles, problem, format, virtual_size, cluster_bits, l2_bits, dialect, producer,
    backing_name, backing_format, backing_time, is_encrypted, total, allocated, packed, zero,
    lost, leaked_bytes, is_deep, with_archives, looked, version1_since,
    on_disk, shared, is_all_shared, is_cut, layout)
    = (SELECT class, length, resembles, problem, format, virtual_size, cluster_bits, l2_bits, dialect,
        producer, backing_name, backing_format, backing_time, is_encrypted, total, allocated,
        packed, zero, lost, leaked_bytes, is_deep, with_archives, looked,
        version1_since, on_disk, shared, is_all_shared, is_cut, layout
        FROM file AS other
        WHERE other.device = file.device AND other.inode = file.inode AND other.links > 1
        AND other.member = x'' AND other.is_stub = 0 AND other.last_seen = ?1 LIMIT 1),
    gone = NULL
WHERE is_stub = 1 AND EXISTS (SELECT 1 FROM file AS other
    WHERE other.device = file.device AND other.inode = file.inode AND other.links > 1
    AND other.member = x'' AND other.is_stub = 0 AND other.last_seen = ?1)
