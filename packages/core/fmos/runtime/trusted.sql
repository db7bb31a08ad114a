CREATE TABLE trusted_project(
    path TEXT PRIMARY KEY,
    identity TEXT NOT NULL,                 -- device:inode of the directory
    digest TEXT NOT NULL,                   -- of the names and contents of all documents
    files TEXT NOT NULL,                    -- JSON: relative path to SHA-256, to say what changed
    trusted_by TEXT NOT NULL,
    trusted_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
