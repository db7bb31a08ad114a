-- Secrets that an agent has seen: keyed digests of the forms they may take, never a value.
CREATE TABLE trust_known(
    tenant TEXT NOT NULL,
    agent TEXT NOT NULL,
    digest BLOB NOT NULL,
    length INTEGER NOT NULL,
    kind TEXT NOT NULL,
    source TEXT NOT NULL,
    forms BLOB NOT NULL,
    until_ns INTEGER NOT NULL,
    PRIMARY KEY (tenant, agent, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX trust_known_until ON trust_known(until_ns);

-- Grows with every change of what an agent has seen, so that it need not be read again.
CREATE TABLE trust_known_revision(
    tenant TEXT NOT NULL,
    agent TEXT NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (tenant, agent)
) STRICT, WITHOUT ROWID;

-- The last pieces of a session's outgoing texts that look like parts of a secret, sealed.
CREATE TABLE trust_fragment(
    tenant TEXT NOT NULL,
    agent TEXT NOT NULL,
    session TEXT NOT NULL,
    sealed BLOB NOT NULL,
    until_ns INTEGER NOT NULL,
    PRIMARY KEY (tenant, agent, session)
) STRICT, WITHOUT ROWID;

-- What stands in a session's texts in place of a value, with the value, sealed.
CREATE TABLE trust_token(
    tenant TEXT NOT NULL,
    agent TEXT NOT NULL,
    session TEXT NOT NULL,
    token TEXT NOT NULL,
    kind TEXT NOT NULL,
    digest BLOB NOT NULL,
    sealed BLOB NOT NULL,
    until_ns INTEGER NOT NULL,
    PRIMARY KEY (tenant, agent, session, token),
    UNIQUE (tenant, agent, session, digest)
) STRICT, WITHOUT ROWID;
