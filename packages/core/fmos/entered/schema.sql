-- What entered the sessions of agents. No text is readable here: it is sealed under a key of the
-- session, which goes with the session's row; digests of values are keyed with the tenant's key.

CREATE TABLE entered_session(
    tenant TEXT NOT NULL,
    agent TEXT NOT NULL,
    session TEXT NOT NULL,
    salt BLOB NOT NULL,                 -- of the session's key
    integrity TEXT NOT NULL,            -- the least of what entered; empty: nothing did
    confidentiality TEXT NOT NULL,      -- the most of what entered
    started_ns INTEGER NOT NULL,
    PRIMARY KEY (tenant, agent, session)
) STRICT, WITHOUT ROWID;

CREATE TABLE entered(
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    agent TEXT NOT NULL,
    session TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('user', 'tool', 'memory', 'agent')),
    source TEXT NOT NULL,               -- the tool's name, without what looks like a secret
    operation TEXT NOT NULL,
    integrity TEXT NOT NULL,
    confidentiality TEXT NOT NULL,
    digest BLOB NOT NULL,               -- of the whole text, keyed
    digests BLOB NOT NULL,              -- of its values, keyed: see fmos_trust/provenance/values.py
    sealed BLOB,                        -- text and place; null once its time is over
    at_ns INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX entered_once ON entered(tenant, agent, session, digest);
CREATE INDEX entered_order ON entered(tenant, agent, session, id);
CREATE INDEX entered_age ON entered(at_ns) WHERE sealed IS NOT NULL;

-- Whose entries an agent has beside its own and its ancestors': of what was merged, or handed over.
-- A row `forgotten` tells other processes to read again.
CREATE TABLE entered_link(
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    agent TEXT NOT NULL,
    other TEXT NOT NULL,
    how TEXT NOT NULL CHECK (how IN ('merged', 'handed', 'forgotten'))
) STRICT;
CREATE INDEX entered_link_of ON entered_link(tenant, agent, other);
