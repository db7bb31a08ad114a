-- What a person said of an agent: states.py alone writes this. An agent without a row is running.
CREATE TABLE agent_state(
    tenant TEXT NOT NULL,
    agent TEXT NOT NULL,                    -- the agent's key
    state TEXT NOT NULL CHECK (state IN ('running', 'paused', 'killed', 'importing')),
    since_ns INTEGER NOT NULL,
    person TEXT NOT NULL,                   -- who said so
    reason TEXT NOT NULL,
    change TEXT NOT NULL,                   -- id of the change, which its journal row has too
    event TEXT NOT NULL,                    -- operation of that row, such as agent.pause
    detail TEXT NOT NULL,                   -- JSON: what that row says besides
    noted INTEGER NOT NULL,                 -- 1 once that row is written
    PRIMARY KEY (tenant, agent)
) STRICT, WITHOUT ROWID;
