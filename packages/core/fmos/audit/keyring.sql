-- The public key that each tenant began with: another key in its folder is an error.
CREATE TABLE tenant_key(
    tenant TEXT PRIMARY KEY,
    public_key TEXT NOT NULL,
    made_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
