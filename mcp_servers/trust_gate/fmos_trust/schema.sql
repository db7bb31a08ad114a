-- The tools of an agent, as its application registered them.
CREATE TABLE trust_tool(
    tenant TEXT NOT NULL,
    agent TEXT NOT NULL,
    name TEXT NOT NULL,
    descriptor TEXT NOT NULL,
    registered_ns INTEGER NOT NULL,
    PRIMARY KEY (tenant, agent, name)
) STRICT, WITHOUT ROWID;

-- Secrets that a session has seen: a keyed digest and the length, never the value.
CREATE TABLE trust_secret(
    tenant TEXT NOT NULL,
    agent TEXT NOT NULL,
    session TEXT NOT NULL,
    digest BLOB NOT NULL,
    length INTEGER NOT NULL,
    kind TEXT NOT NULL,
    source TEXT NOT NULL,
    seen_ns INTEGER NOT NULL,
    PRIMARY KEY (tenant, agent, session, digest)
) STRICT, WITHOUT ROWID;

-- Operations that wait for a person. `digest` binds the answer to exactly one call.
CREATE TABLE trust_approval(
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    agent TEXT NOT NULL,
    principal TEXT NOT NULL,
    operation TEXT NOT NULL,
    tool TEXT NOT NULL,
    shown TEXT NOT NULL,
    reasons TEXT NOT NULL,
    digest TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'approved', 'denied', 'used')),
    created_ns INTEGER NOT NULL,
    expires_ns INTEGER NOT NULL,
    approver TEXT NOT NULL DEFAULT '',
    comment TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
CREATE INDEX trust_approval_waiting ON trust_approval(tenant, agent, state);
