CREATE TABLE agent(
    tenant TEXT NOT NULL,
    agent TEXT NOT NULL,
    parent TEXT,
    created_ns INTEGER NOT NULL,
    PRIMARY KEY (tenant, agent)
) STRICT, WITHOUT ROWID;
