-- The one delegation that counts for each sub-agent; those before it are in the journal.
CREATE TABLE delegation(
    tenant TEXT NOT NULL,
    child TEXT NOT NULL,                    -- the agent's key
    id TEXT NOT NULL,
    token TEXT NOT NULL,                    -- signed: nothing else of the row grants anything
    seen_ns INTEGER NOT NULL,               -- the latest time at which it was used, to the minute
    ended TEXT NOT NULL DEFAULT '',         -- why it counts no more, as a sentence
    PRIMARY KEY (tenant, child)
) STRICT, WITHOUT ROWID;
