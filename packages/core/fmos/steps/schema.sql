-- Steps of runs, by idempotency key, and what their outcome was. docs/workflows.md says what rows mean.

CREATE TABLE step(
    tenant TEXT NOT NULL,
    run TEXT NOT NULL,
    key TEXT NOT NULL,
    id TEXT NOT NULL,                   -- the idempotency key that an outside effect is given
    principal TEXT NOT NULL,            -- JSON
    effect TEXT NOT NULL CHECK (effect IN ('volume', 'outside', 'idempotent')),
    inputs TEXT NOT NULL,               -- canonical JSON
    undoes TEXT NOT NULL DEFAULT '',    -- of a compensation: the key of the step that it undoes
    compensation TEXT,                  -- name of what undoes it; null: there is nothing to undo
    state TEXT NOT NULL CHECK (state IN ('running', 'done', 'failed', 'in_doubt')),
    attempt INTEGER NOT NULL,
    owner TEXT,                         -- JSON: the process that runs it; null: it cannot be known
    since_ns INTEGER NOT NULL,          -- when it came to this state
    number INTEGER,                     -- its place among those that are done
    outcome TEXT,                       -- JSON
    error TEXT,
    PRIMARY KEY (tenant, run, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX step_running ON step(state, tenant) WHERE state = 'running';

-- A run whose steps may be undone. No row: it goes on.
CREATE TABLE saga(
    tenant TEXT NOT NULL,
    run TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('complete', 'undoing', 'undone', 'stuck')),
    reason TEXT NOT NULL,
    since_ns INTEGER NOT NULL,
    PRIMARY KEY (tenant, run)
) STRICT, WITHOUT ROWID;

-- Up to which row each journal was looked at, and what was asked for in it and has no outcome yet.
CREATE TABLE reconciled(
    tenant TEXT PRIMARY KEY,
    seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE open_intent(
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    principal TEXT NOT NULL,            -- as in the journal: tenant/application/agent/session
    branch TEXT NOT NULL,
    at_ns INTEGER NOT NULL,
    process TEXT NOT NULL,              -- JSON; empty: it is not known
    reservation TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;
