-- Tokens that were issued: only the SHA-256 of the secret is kept, so that nobody who reads this
-- file can call with it. A revoked token stays, so that its id is never another's.
CREATE TABLE token(
    id TEXT PRIMARY KEY,
    digest BLOB NOT NULL,
    tenant TEXT NOT NULL,
    application TEXT NOT NULL,
    agent TEXT NOT NULL,
    session TEXT NOT NULL,
    role TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    expires_ns INTEGER NOT NULL,
    revoked_ns INTEGER,
    used_ns INTEGER
) STRICT, WITHOUT ROWID;
