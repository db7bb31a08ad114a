-- The keys that came after the first one, each with what the key before it signed.
CREATE TABLE tenant_key_change(
    tenant TEXT NOT NULL,
    number INTEGER NOT NULL,      -- 1 is the first change
    public_key TEXT NOT NULL,
    change TEXT NOT NULL,         -- JSON: see fmos/audit/history.py
    PRIMARY KEY(tenant, number)
) STRICT, WITHOUT ROWID;
