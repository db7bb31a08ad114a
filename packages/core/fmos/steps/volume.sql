CREATE TABLE IF NOT EXISTS ext_steps_outcome(
    id TEXT PRIMARY KEY,                -- the step's idempotency key
    attempt INTEGER NOT NULL,
    done INTEGER NOT NULL CHECK (done IN (0, 1)),
    outcome TEXT NOT NULL               -- JSON; of a failed attempt, its error
) STRICT, WITHOUT ROWID;
