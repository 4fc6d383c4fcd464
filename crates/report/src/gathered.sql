-- What is gathered for one report, of which there may be much. Paths are the bytes that the host
-- has for them; a run is 0 where none knows of it.

-- Paths at which there may be version 1 images, and who has the say of each.
CREATE TABLE known (
    path BLOB PRIMARY KEY,
    who INTEGER NOT NULL,
    run INTEGER NOT NULL,
    may_be_missing INTEGER NOT NULL
) WITHOUT ROWID;

-- What is at each of them now.
CREATE TABLE looked (
    path BLOB PRIMARY KEY,
    found INTEGER NOT NULL,
    -- Why it could not be read.
    problem TEXT,
    is_in_use INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    size INTEGER NOT NULL,
    spent INTEGER NOT NULL,
    modified INTEGER NOT NULL
) WITHOUT ROWID;

-- What speaks against a certificate; a member is empty for the file itself.
CREATE TABLE remaining (
    reason INTEGER NOT NULL,
    path BLOB NOT NULL,
    member BLOB NOT NULL,
    run INTEGER NOT NULL,
    PRIMARY KEY (reason, path, member, run)
) WITHOUT ROWID;

-- Families that failed, in the order of the plan, with their topmost images.
CREATE TABLE failed (
    cause TEXT NOT NULL,
    place INTEGER NOT NULL,
    family INTEGER NOT NULL,
    path BLOB NOT NULL,
    problem TEXT NOT NULL,
    PRIMARY KEY (cause, place)
) WITHOUT ROWID;

-- Version 1 images that the plan leaves.
CREATE TABLE left_over (
    reason TEXT NOT NULL,
    place INTEGER NOT NULL,
    path BLOB NOT NULL,
    PRIMARY KEY (reason, place)
) WITHOUT ROWID;
