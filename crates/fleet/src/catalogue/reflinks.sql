-- Has whole copies that share their blocks point at the first path with them. A file system may have
-- moved a file since it was asked, and given its old place away: so of the two the one that was
-- looked at last has to say that all its blocks are shared.
UPDATE file SET reflink_of = (SELECT other.id FROM file AS other
    WHERE other.layout = file.layout AND other.path < file.path AND other.device = file.device
    AND other.size = file.size AND other.member = x'' AND other.gone IS NULL
    AND other.name_of IS NULL
    AND iif(other.looked > file.looked, other.is_all_shared, file.is_all_shared)
    ORDER BY other.path LIMIT 1)
WHERE layout IS NOT NULL AND member = x'' AND gone IS NULL AND name_of IS NULL
