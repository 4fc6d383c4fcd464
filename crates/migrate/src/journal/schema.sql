-- What migrations did. Paths are the bytes that the host has for them; times are seconds since 1970.

CREATE TABLE IF NOT EXISTS migration (
    number INTEGER PRIMARY KEY,
    -- The plan, and BLAKE3 of its file: the same plan goes on with the same run.
    plan BLOB NOT NULL,
    digest TEXT NOT NULL,
    -- What becomes of originals, as in the plan.
    kept TEXT NOT NULL,
    began INTEGER NOT NULL,
    ended INTEGER,
    undone INTEGER
);

CREATE TABLE IF NOT EXISTS migrated_family (
    run INTEGER NOT NULL REFERENCES migration,
    number INTEGER NOT NULL,
    state TEXT NOT NULL,
    began INTEGER NOT NULL,
    ended INTEGER,
    -- Why it is not migrated: a word, and a line.
    cause TEXT,
    problem TEXT,
    PRIMARY KEY (run, number)
) WITHOUT ROWID;

-- Families that were left half way: what kept them so the last time, how far they were, and how often
-- that was the same in a row.
CREATE TABLE IF NOT EXISTS stuck_family (
    run INTEGER NOT NULL REFERENCES migration,
    number INTEGER NOT NULL,
    cause TEXT NOT NULL,
    progress TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    PRIMARY KEY (run, number)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS migrated_image (
    run INTEGER NOT NULL REFERENCES migration,
    family INTEGER NOT NULL,
    place INTEGER NOT NULL,
    path BLOB NOT NULL,
    strategy TEXT NOT NULL,
    state TEXT NOT NULL,
    -- The file before, and after: its number, length, and nanoseconds since 1970.
    old_inode INTEGER NOT NULL,
    old_size INTEGER NOT NULL,
    old_modified INTEGER NOT NULL,
    new_inode INTEGER,
    new_size INTEGER,
    new_modified INTEGER,
    -- Where the original is kept; none where the file itself knows the way back.
    kept BLOB,
    -- Of an overlay whose header is changed: what that was and is, as JSON.
    header TEXT,
    -- BLAKE3 of the disk, read before and after by other code.
    digest TEXT,
    -- Bytes of the disk that are missing.
    missing INTEGER NOT NULL,
    began INTEGER NOT NULL,
    ended INTEGER,
    PRIMARY KEY (run, family, place)
) WITHOUT ROWID;

-- Configurations that follow their images. One that somebody else changed since begins anew under
-- the next generation.
CREATE TABLE IF NOT EXISTS followed_configuration (
    run INTEGER NOT NULL REFERENCES migration,
    path BLOB NOT NULL,
    generation INTEGER NOT NULL,
    -- Its bytes: when no family was migrated; before the last change; and after it. Until that is
    -- known to be done, either of the latter two may stand there.
    original BLOB NOT NULL,
    before BLOB NOT NULL,
    after BLOB NOT NULL,
    -- The storages of Proxmox VE that it was read with, as that writes them.
    storages BLOB NOT NULL,
    PRIMARY KEY (run, path, generation)
) WITHOUT ROWID;

-- The families that `after` follows.
CREATE TABLE IF NOT EXISTS followed_family (
    run INTEGER NOT NULL,
    family INTEGER NOT NULL,
    path BLOB NOT NULL,
    generation INTEGER NOT NULL,
    PRIMARY KEY (run, family, path, generation)
) WITHOUT ROWID;
