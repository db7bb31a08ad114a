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
    layout     INTEGER NOT NULL DEFAULT 0,   -- file: 0 inline, n a chunk list of n levels
    xattrs     TEXT,                         -- JSON object: name to hexadecimal value
    data       BLOB                          -- bytes, chunk list or link target
) STRICT;

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
    base_root  INTEGER,                      -- the common ancestor with its parent
    base_seq   INTEGER,                      -- the journal row that made the base
    created_ns INTEGER NOT NULL,
    principal  TEXT NOT NULL
) STRICT;

CREATE TABLE snapshot (
    name       TEXT PRIMARY KEY,
    branch     TEXT NOT NULL,
    root       INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    message    TEXT NOT NULL,
    created_ns INTEGER NOT NULL
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
