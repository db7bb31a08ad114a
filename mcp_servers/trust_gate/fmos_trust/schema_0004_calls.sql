-- Calls that were let through, or may run on a fork while a person is asked: an outcome needs one,
-- and a call that is checked twice is paid once.
CREATE TABLE trust_call(
    tenant TEXT NOT NULL,
    agent TEXT NOT NULL,
    operation TEXT NOT NULL,
    digest TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('asked', 'open', 'settled')),
    at_ns INTEGER NOT NULL,
    PRIMARY KEY (tenant, agent, operation)
) STRICT, WITHOUT ROWID;
CREATE INDEX trust_call_at ON trust_call(at_ns);
