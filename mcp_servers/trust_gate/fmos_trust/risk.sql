-- What open calls hold of their accounts' risk, until their outcome is known.
CREATE TABLE trust_risk(
    tenant TEXT NOT NULL,
    agent TEXT NOT NULL,                    -- the agent's key
    operation TEXT NOT NULL,
    reservation TEXT NOT NULL,
    PRIMARY KEY (tenant, agent, operation)
) STRICT, WITHOUT ROWID;
