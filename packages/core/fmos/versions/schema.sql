-- Which version each session was given of an artefact: history, so it never goes back.
CREATE TABLE IF NOT EXISTS ext_versions_served (
    kind      TEXT NOT NULL,
    name      TEXT NOT NULL,
    principal TEXT NOT NULL,              -- tenant/application/agent/session
    version   TEXT NOT NULL,              -- SHA-256 of the content; '' is none
    seq       INTEGER NOT NULL,           -- the journal row `version.serve`
    PRIMARY KEY (kind, name, principal, version)
) STRICT, WITHOUT ROWID;
