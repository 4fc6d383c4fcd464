-- Makes a catalogue of version 1 one of version 2, in which it stands where images lie.
ALTER TABLE file ADD COLUMN on_disk INTEGER;
ALTER TABLE file ADD COLUMN shared INTEGER;
ALTER TABLE file ADD COLUMN is_all_shared INTEGER;
ALTER TABLE file ADD COLUMN is_cut INTEGER;
ALTER TABLE file ADD COLUMN layout BLOB;
ALTER TABLE file ADD COLUMN reflink_of INTEGER;
CREATE INDEX file_layout ON file (layout, path) WHERE layout IS NOT NULL;
-- Version 1 walked no tables of images in archives, whatever it was asked.
UPDATE file SET is_deep = 0 WHERE path IN (SELECT path FROM file WHERE member <> x'');
PRAGMA user_version = 2;
