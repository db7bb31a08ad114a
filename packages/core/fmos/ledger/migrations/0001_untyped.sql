-- Limits, running totals and reservations. An account is a path such as 'tenant/app/agent/session';
-- totals are kept for every account on the path, so that a check reads one row per account.

CREATE TABLE account_limit(
    account TEXT NOT NULL,
    resource TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    PRIMARY KEY (account, resource)
) STRICT, WITHOUT ROWID;

CREATE TABLE account_total(
    account TEXT NOT NULL,
    resource TEXT NOT NULL,
    reserved INTEGER NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    spent INTEGER NOT NULL DEFAULT 0 CHECK (spent >= 0),
    PRIMARY KEY (account, resource)
) STRICT, WITHOUT ROWID;

CREATE TABLE reservation(
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    operation TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'committed', 'refunded', 'expired')),
    expires_ns INTEGER NOT NULL,
    UNIQUE (account, operation)
) STRICT, WITHOUT ROWID;

CREATE INDEX reservation_due ON reservation(expires_ns) WHERE state = 'open';

CREATE TABLE reservation_amount(
    reservation TEXT NOT NULL REFERENCES reservation(id),
    resource TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    PRIMARY KEY (reservation, resource)
) STRICT, WITHOUT ROWID;
