-- The catalogue. Paths and names are the bytes that the host has for them.

CREATE TABLE scan (
    number INTEGER PRIMARY KEY,
    -- Seconds since 1970. A scan without an end was stopped, and marked nothing as gone.
    began INTEGER NOT NULL,
    ended INTEGER,
    is_deep INTEGER NOT NULL,
    with_archives INTEGER NOT NULL,
    is_one_file_system INTEGER NOT NULL
);

CREATE TABLE root (
    scan INTEGER NOT NULL REFERENCES scan,
    path BLOB NOT NULL
);

-- What could not be looked at: all below such a path is as it was before.
CREATE TABLE trouble (
    scan INTEGER NOT NULL REFERENCES scan,
    path BLOB NOT NULL,
    -- The path and a slash.
    below BLOB NOT NULL,
    what TEXT NOT NULL
);

CREATE TABLE file (
    id INTEGER PRIMARY KEY,
    path BLOB NOT NULL,
    -- The name within the archive at that path; empty for the file itself.
    member BLOB NOT NULL,
    -- The last part of the path, or of the member's name.
    name BLOB NOT NULL,
    device INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    links INTEGER NOT NULL,
    size INTEGER NOT NULL,
    -- Nanoseconds since 1970.
    modified INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    has_undo_record INTEGER NOT NULL,
    class TEXT NOT NULL,
    -- In bytes; of a member only where it is known.
    length INTEGER,
    resembles TEXT,
    problem TEXT,
    -- The rest only of images.
    format TEXT,
    virtual_size INTEGER,
    cluster_bits INTEGER,
    l2_bits INTEGER,
    dialect TEXT,
    producer TEXT,
    backing_name BLOB,
    backing_format TEXT,
    -- Seconds since 1970.
    backing_time INTEGER,
    is_encrypted INTEGER NOT NULL,
    -- Of a walk over all tables.
    total INTEGER,
    allocated INTEGER,
    packed INTEGER,
    zero INTEGER,
    lost INTEGER,
    leaked_bytes INTEGER,
    -- How it was looked at, and when (nanoseconds since 1970).
    is_deep INTEGER NOT NULL,
    with_archives INTEGER NOT NULL,
    looked INTEGER NOT NULL,
    -- Numbers of scans.
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    version1_since INTEGER,
    gone INTEGER,
    -- The same number again where somebody said that this was on purpose: whatever is seen again and
    -- goes once more has another one in gone.
    removed INTEGER,
    -- A further name of a file, not yet filled in from its first one.
    is_stub INTEGER NOT NULL,
    -- The row of the first of several names of one file; none of that one itself.
    name_of INTEGER,
    -- Of images that are files, as the host said when they were looked at: bytes on the device, of
    -- those how many are shared with other files, whether all are, whether that is of the first
    -- extents only, and the digest of where they are.
    on_disk INTEGER,
    shared INTEGER,
    is_all_shared INTEGER,
    is_cut INTEGER,
    layout BLOB,
    -- The row of an earlier path with the same blocks.
    reflink_of INTEGER,
    UNIQUE (path, member)
);

CREATE INDEX file_place ON file (device, inode) WHERE links > 1;
CREATE INDEX file_layout ON file (layout, path) WHERE layout IS NOT NULL;
-- By what families look for bases.
CREATE INDEX file_name ON file (name);
CREATE INDEX file_second ON file (modified / 1000000000);
CREATE INDEX file_virtual_size ON file (virtual_size) WHERE virtual_size IS NOT NULL;

CREATE TABLE finding (
    file INTEGER NOT NULL REFERENCES file,
    rule TEXT NOT NULL,
    count INTEGER NOT NULL,
    at INTEGER,
    PRIMARY KEY (file, rule)
) WITHOUT ROWID;
