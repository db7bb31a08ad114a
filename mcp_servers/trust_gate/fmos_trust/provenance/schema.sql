-- Why calls were stopped or noted: what a person may read of it is sealed as what entered the
-- session is, and goes with it; the codes and rules stay.
CREATE TABLE trust_why(
    id INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    agent TEXT NOT NULL,
    session TEXT NOT NULL,
    operation TEXT NOT NULL,
    approval TEXT NOT NULL,
    decision TEXT NOT NULL,
    sealed BLOB NOT NULL,
    at_ns INTEGER NOT NULL
) STRICT;
CREATE INDEX trust_why_operation ON trust_why(tenant, operation);
CREATE INDEX trust_why_approval ON trust_why(tenant, approval) WHERE approval <> '';
CREATE INDEX trust_why_session ON trust_why(tenant, agent, session, id);
CREATE INDEX trust_why_age ON trust_why(at_ns);
