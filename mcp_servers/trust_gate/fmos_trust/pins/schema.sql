-- The tools of an agent, one row for each server: what is pinned, what the application said last,
-- and what the agent itself asked for. `seal` covers all of it under the tenant's key.
CREATE TABLE trust_pin(
    tenant TEXT NOT NULL,
    agent TEXT NOT NULL,
    server TEXT NOT NULL,
    revision INTEGER NOT NULL,
    pins TEXT NOT NULL,
    offer TEXT NOT NULL,
    asked TEXT NOT NULL,
    pinned_ns INTEGER NOT NULL,
    seal TEXT NOT NULL,
    PRIMARY KEY (tenant, agent, server)
) STRICT, WITHOUT ROWID;
