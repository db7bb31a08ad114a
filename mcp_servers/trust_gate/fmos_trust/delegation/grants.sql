-- What a person said that a text may decide: `do what the e-mail says`. Counts only under `seal`.
CREATE TABLE content_grant(
    id TEXT NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL,
    agent TEXT NOT NULL,                    -- the agent's key
    expires_ns INTEGER NOT NULL,
    body TEXT NOT NULL,                     -- JSON: the grant, with how often it was used
    seal TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX content_grant_agent ON content_grant(tenant, agent);
