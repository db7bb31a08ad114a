-- From version 1 to 2: overlays. The tables are those of schema.sql.

-- Host directories that branches are laid over.
CREATE TABLE overlay (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    host       ANY NOT NULL,                 -- an absolute path without symbolic links
    at         ANY NOT NULL,                 -- where it begins in the tree
    identity   TEXT NOT NULL,                -- JSON: what the host directory was
    created_ns INTEGER NOT NULL,
    principal  TEXT NOT NULL
) STRICT;

-- What is known of host files: as they were when they were last read whole, or written by apply.
CREATE TABLE overlay_file (
    overlay  INTEGER NOT NULL,
    path     ANY NOT NULL,                   -- relative to the host directory
    identity TEXT NOT NULL,                  -- JSON: device, inode, size, mtime, ctime, mode, links
    hash     BLOB NOT NULL,                  -- BLAKE3 of the content
    PRIMARY KEY (overlay, path)
) STRICT, WITHOUT ROWID;

UPDATE meta SET value = 2 WHERE key = 'format_version';
PRAGMA user_version = 2;
