-- Grows with every registration, so that what was read of an agent's tools need not be read again.
CREATE TABLE trust_toolset(
    tenant TEXT NOT NULL,
    agent TEXT NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (tenant, agent)
) STRICT, WITHOUT ROWID;
INSERT INTO trust_toolset SELECT DISTINCT tenant, agent, 1 FROM trust_tool;

-- Set once the time of an approval is up, so that a clock that goes back does not revive it.
ALTER TABLE trust_approval ADD COLUMN expired INTEGER NOT NULL DEFAULT 0;
