-- Calls of a session that failed, by a keyed digest; and what calls of a tool fail for.
CREATE TABLE trust_failure(
    tenant TEXT NOT NULL,
    agent TEXT NOT NULL,
    session TEXT NOT NULL,
    digest TEXT NOT NULL,
    kind TEXT NOT NULL,
    times INTEGER NOT NULL,
    warned INTEGER NOT NULL,
    at_ns INTEGER NOT NULL,
    PRIMARY KEY (tenant, agent, session, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX trust_failure_at ON trust_failure(at_ns);

CREATE TABLE trust_lesson(
    tenant TEXT NOT NULL,
    tool TEXT NOT NULL,
    kind TEXT NOT NULL,
    advice TEXT NOT NULL,
    times INTEGER NOT NULL,
    at_ns INTEGER NOT NULL,
    PRIMARY KEY (tenant, tool, kind)
) STRICT, WITHOUT ROWID;
