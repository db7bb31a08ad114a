-- What sessions asked and were answered, in their tenant's volume. Never a file: no door of the
-- tree leads here. Rows are added in the transaction of the journal row they belong to.

CREATE TABLE IF NOT EXISTS ext_recording_session(
    id INTEGER PRIMARY KEY,             -- of branch and principal: store.py
    branch TEXT NOT NULL,
    principal TEXT NOT NULL,            -- tenant/application/agent/session
    session TEXT NOT NULL,
    started_ns INTEGER NOT NULL,
    salt BLOB NOT NULL                  -- of the session's key: encryption.py
) STRICT;

CREATE INDEX IF NOT EXISTS ext_recording_named ON ext_recording_session(session);
CREATE INDEX IF NOT EXISTS ext_recording_age ON ext_recording_session(started_ns);

CREATE TABLE IF NOT EXISTS ext_recording_entry(
    id INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    time_ns INTEGER NOT NULL,           -- of the kernel's clock
    seq INTEGER,                        -- the journal's row; null: it has none
    name TEXT NOT NULL,                 -- a tool, a premise, or what a person did
    operation TEXT NOT NULL,            -- empty: none
    content BLOB NOT NULL               -- encrypted JSON; a long text in it is {"\u0000text": digest}
) STRICT;

CREATE INDEX IF NOT EXISTS ext_recording_order ON ext_recording_entry(session, id);

CREATE TABLE IF NOT EXISTS ext_recording_text(
    session INTEGER NOT NULL,
    digest TEXT NOT NULL,
    content BLOB NOT NULL,              -- UTF-8, packed by zstd, encrypted
    PRIMARY KEY (session, digest)
) STRICT, WITHOUT ROWID;

-- The digest of each premise that was recorded last, so that an unchanged one is not told again.
CREATE TABLE IF NOT EXISTS ext_recording_premise(
    session INTEGER NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (session, name)
) STRICT, WITHOUT ROWID;
