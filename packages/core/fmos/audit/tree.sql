-- The Merkle tree over the journal's rows: one, and another where rows were let go too early.
CREATE TABLE IF NOT EXISTS ext_audit_tree(
    base     INTEGER PRIMARY KEY,   -- the row before its first leaf
    chain    BLOB NOT NULL,         -- that row's hash
    size     INTEGER NOT NULL,      -- how many rows are in it
    last     BLOB NOT NULL,         -- the hash of the last of them
    frontier BLOB NOT NULL          -- the full subtrees it is made of, 32 bytes each
) STRICT;

-- Up to 256 hashes side by side: of leaves (level 0), of their tiles (level 1), and so on.
CREATE TABLE IF NOT EXISTS ext_audit_tile(
    base   INTEGER NOT NULL,
    level  INTEGER NOT NULL,
    number INTEGER NOT NULL,
    hashes BLOB NOT NULL,
    PRIMARY KEY(base, level, number)
) STRICT;

-- The checkpoints that were signed.
CREATE TABLE IF NOT EXISTS ext_audit_checkpoint(
    base    INTEGER NOT NULL,
    size    INTEGER NOT NULL,
    time_ns INTEGER NOT NULL,
    key     INTEGER NOT NULL,       -- the number of the key in the tenant's history
    note    TEXT NOT NULL,
    PRIMARY KEY(base, size)
) STRICT;
