-- When each background job ran last, and how it went; written by jobs.py only.
CREATE TABLE job_run(
    name TEXT PRIMARY KEY,
    started_ns INTEGER NOT NULL,
    took_ms INTEGER NOT NULL,
    owner INTEGER NOT NULL,                 -- process id
    failures INTEGER NOT NULL,              -- in a row; 0 after one that went well
    next_ns INTEGER NOT NULL,               -- not again before
    error TEXT NOT NULL                     -- of the last failure; it stays until one goes well
) STRICT, WITHOUT ROWID;
