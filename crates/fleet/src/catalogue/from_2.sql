-- Makes a catalogue of version 2 one of version 3, which knows what was removed on purpose.
ALTER TABLE file ADD COLUMN removed INTEGER;
PRAGMA user_version = 3;
