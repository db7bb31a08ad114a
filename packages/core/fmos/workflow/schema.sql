-- Runs of workflows and what they wait for. Their steps are rows of `step`; see docs/workflows.md.

CREATE TABLE workflow_run(
    tenant TEXT NOT NULL,
    run TEXT NOT NULL,
    workflow TEXT NOT NULL,             -- its name
    digest TEXT NOT NULL,               -- of the document
    document TEXT NOT NULL,             -- JSON, so that a resumed run needs no file
    application TEXT NOT NULL,
    inputs TEXT NOT NULL,               -- JSON
    options TEXT NOT NULL,              -- JSON of RunOptions
    requested_by TEXT NOT NULL,         -- the person who started it
    state TEXT NOT NULL
        CHECK (state IN ('running', 'waiting', 'done', 'failed', 'cancelled', 'stuck')),
    reason TEXT NOT NULL DEFAULT '',
    started_ns INTEGER NOT NULL,
    changed_ns INTEGER NOT NULL,
    PRIMARY KEY (tenant, run)
) STRICT, WITHOUT ROWID;

CREATE INDEX workflow_run_started ON workflow_run(started_ns);

CREATE TABLE workflow_manifest(
    tenant TEXT NOT NULL,
    run TEXT NOT NULL,
    step TEXT NOT NULL,
    manifest TEXT NOT NULL,             -- JSON, sealed
    PRIMARY KEY (tenant, run, step)
) STRICT, WITHOUT ROWID;

-- A question to a person: an approval step, or consent to what a step may do.
CREATE TABLE workflow_wait(
    tenant TEXT NOT NULL,
    run TEXT NOT NULL,
    step TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('approval', 'consent')),
    about TEXT NOT NULL,                -- JSON: what consent is asked for
    state TEXT NOT NULL CHECK (state IN ('waiting', 'approved', 'denied')),
    asked_ns INTEGER NOT NULL,
    due_ns INTEGER,                     -- null: it waits without end
    level INTEGER NOT NULL DEFAULT 0,   -- how often it has timed out
    asked_of TEXT NOT NULL DEFAULT '',  -- whom it was escalated to
    answered_by TEXT NOT NULL DEFAULT '',
    comment TEXT NOT NULL DEFAULT '',
    answered_ns INTEGER,
    PRIMARY KEY (tenant, run, step)
) STRICT, WITHOUT ROWID;

CREATE INDEX workflow_wait_open ON workflow_wait(state, due_ns) WHERE state = 'waiting';
