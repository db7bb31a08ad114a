-- How often each tool was let through, for rules that count calls; written by policy/store.py.
CREATE TABLE trust_policy_count(
    tenant TEXT NOT NULL,
    agent TEXT NOT NULL,
    session TEXT NOT NULL,
    tool TEXT NOT NULL,
    day TEXT NOT NULL,
    calls INTEGER NOT NULL,
    PRIMARY KEY (tenant, agent, tool, day, session)
) STRICT, WITHOUT ROWID;
