-- What waits for a person, as one document under a seal; the columns are what is searched for, and
-- those that say what became of it. Nothing of before is kept: it is asked about anew.
DROP TABLE trust_approval;
CREATE TABLE trust_approval(
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    agent TEXT NOT NULL,
    digest TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'approved', 'denied', 'used', 'replaced')),
    created_ns INTEGER NOT NULL,
    expires_ns INTEGER NOT NULL,
    boot TEXT NOT NULL,
    up_until_ns INTEGER NOT NULL,
    expired INTEGER NOT NULL DEFAULT 0,
    branch TEXT NOT NULL DEFAULT '',
    document TEXT NOT NULL,
    seal TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX trust_approval_call ON trust_approval(digest);
CREATE INDEX trust_approval_waiting ON trust_approval(state, tenant, agent);
CREATE INDEX trust_approval_created ON trust_approval(created_ns);
CREATE INDEX trust_approval_branch ON trust_approval(branch) WHERE branch <> '';
