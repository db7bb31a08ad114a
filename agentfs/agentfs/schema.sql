-- The format of an agentfs volume; SPEC.md explains every field.

-- Settings and counters of the volume.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

-- Versions of files (immutable), directories (mutable while owned) and symbolic links.
CREATE TABLE node (
    id         INTEGER PRIMARY KEY,
    kind       INTEGER NOT NULL,             -- 1 file, 2 directory, 3 symlink
    generation INTEGER NOT NULL,             -- the branch generation that made it
    mode       INTEGER NOT NULL,             -- permission bits
    size       INTEGER NOT NULL,             -- bytes of a file or of a link's target
    mtime_ns   INTEGER NOT NULL,
    ctime_ns   INTEGER NOT NULL,
    depth      INTEGER NOT NULL DEFAULT 0,   -- directory: slots are 2^depth; 0 is one bucket
    entries    INTEGER NOT NULL DEFAULT 0,   -- directory: number of names
    layout     INTEGER NOT NULL DEFAULT 0,   -- file: 0 inline, n a chunk list of n levels; -1 on host
    xattrs     TEXT,                         -- JSON object: name to hexadecimal value
    digest     BLOB,                         -- file, link: BLAKE3 of data, its first 16 bytes
    data       BLOB                          -- bytes, chunk list with tail, or link target
) STRICT;

-- Lets gc find the file versions that were made while it looked.
CREATE INDEX node_chunked ON node(layout) WHERE layout > 0;

-- Names in a bucket; a directory of depth 0 has one bucket with the directory's own id.
CREATE TABLE entry (
    bucket INTEGER NOT NULL,
    name   ANY NOT NULL,                     -- TEXT, or BLOB where it is not UTF-8
    node   INTEGER NOT NULL,
    PRIMARY KEY (bucket, name)
) STRICT, WITHOUT ROWID;

-- Slots of a directory of depth > 0.
CREATE TABLE bucket_ref (
    directory  INTEGER NOT NULL,
    slot       INTEGER NOT NULL,             -- low `node.depth` bits of the keyed name hash
    bucket     INTEGER NOT NULL,
    depth      INTEGER NOT NULL,             -- how many of these bits the bucket uses
    generation INTEGER NOT NULL,             -- the branch generation that owns the bucket
    PRIMARY KEY (directory, slot)
) STRICT, WITHOUT ROWID;

-- Content-addressed bytes.
CREATE TABLE chunk (
    id    INTEGER PRIMARY KEY,
    hash  BLOB NOT NULL UNIQUE,              -- BLAKE3 of the raw bytes
    size  INTEGER NOT NULL,                  -- raw bytes
    codec INTEGER NOT NULL,                  -- 0 raw, 1 zstd
    data  BLOB NOT NULL
) STRICT;

CREATE TABLE branch (
    name       TEXT PRIMARY KEY,
    root       INTEGER NOT NULL,
    generation INTEGER NOT NULL UNIQUE,
    parent     TEXT,                         -- the branch it was forked from
    point      INTEGER,                      -- where its lineage was last marked
    created_ns INTEGER NOT NULL,
    principal  TEXT NOT NULL
) STRICT;

CREATE TABLE snapshot (
    name       TEXT PRIMARY KEY,
    branch     TEXT NOT NULL,
    root       INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    message    TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    point      INTEGER                       -- where its lineage was marked
) STRICT;

-- States that branches and snapshots may have in common.
CREATE TABLE point (
    id   INTEGER PRIMARY KEY,                -- above those of the points it came from
    root INTEGER                             -- NULL when no merge can need it any more
) STRICT;

-- What a point came from: one earlier point, or both sides of a merge.
CREATE TABLE point_parent (
    point  INTEGER NOT NULL,
    parent INTEGER NOT NULL,
    area   INTEGER NOT NULL,                 -- what came along: 1 files, 2 system area, 3 both
    PRIMARY KEY (point, parent)
) STRICT, WITHOUT ROWID;

-- What a principal may do at a path and below it; of the volume, so that no fork escapes.
CREATE TABLE access_rule (
    prefix    TEXT NOT NULL,                 -- a normal path
    principal TEXT NOT NULL,                 -- '*' is everybody
    access    TEXT NOT NULL,                 -- none, read or write
    PRIMARY KEY (prefix, principal)
) STRICT, WITHOUT ROWID;

-- Branches with limits, and what they use.
CREATE TABLE quota (
    branch     TEXT PRIMARY KEY,
    max_bytes  INTEGER,                      -- NULL is no limit
    max_files  INTEGER,
    used_bytes INTEGER NOT NULL,             -- bytes of all files below the root
    used_files INTEGER NOT NULL              -- names below the root
) STRICT;

-- The history of tool calls; rows are added and finished once.
CREATE TABLE toolcall (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT NOT NULL,
    status     TEXT NOT NULL,                -- running, ok or error
    arguments  TEXT NOT NULL,                -- JSON
    result     TEXT,                         -- JSON
    error      TEXT,
    started_ns INTEGER NOT NULL,
    ended_ns   INTEGER,
    branch     TEXT NOT NULL,
    principal  TEXT NOT NULL
) STRICT;

-- Where the journal begins after gc let go of older rows: at most one row.
CREATE TABLE checkpoint (
    seq       INTEGER PRIMARY KEY,           -- the last row that was let go
    time_ns   INTEGER NOT NULL,              -- when that row was written
    hash      BLOB NOT NULL,                 -- its hash
    rows      INTEGER NOT NULL,              -- how many rows were let go in all
    signature BLOB                           -- over the hash, when gc was given a signer
) STRICT;

-- Trees of past states that `at` made; gc lets go of them.
CREATE TABLE past (
    name    TEXT PRIMARY KEY,                -- branch, unit separator, '@', journal row
    root    INTEGER NOT NULL,
    made_ns INTEGER NOT NULL
) STRICT;

-- The append-only, hash-chained record of what changed.
CREATE TABLE journal (
    seq       INTEGER PRIMARY KEY,
    time_ns   INTEGER NOT NULL,
    principal TEXT NOT NULL,
    branch    TEXT NOT NULL,
    operation TEXT NOT NULL,
    path      ANY NOT NULL,                  -- TEXT, or BLOB where it is not UTF-8
    path2     ANY NOT NULL,
    before    INTEGER,                       -- node ids
    after     INTEGER,
    detail    TEXT NOT NULL,                 -- JSON object
    hash      BLOB NOT NULL                  -- SHA-256 over the previous hash and this row
) STRICT;

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
