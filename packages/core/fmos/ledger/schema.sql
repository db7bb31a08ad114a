-- Accounts, their balances and what is set aside. docs/ledger.md says what the rows mean.

CREATE TABLE account(
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL UNIQUE,          -- typed parts: accounts.py
    parent INTEGER REFERENCES account(id),
    weight REAL NOT NULL DEFAULT 1.0 CHECK (weight > 0),
    thresholds TEXT                     -- JSON list of percents that alert; null: the usual ones
) STRICT;

CREATE INDEX account_parent ON account(parent);

-- One row for each resource and window that an account uses or limits. What a window says is of the
-- window that began at start_ns: `reserved` is the sum of the open reservations made in it, at or
-- below the account, and of all open ones where the window is 'total'.
CREATE TABLE balance(
    account INTEGER NOT NULL REFERENCES account(id),
    resource TEXT NOT NULL,
    window TEXT NOT NULL CHECK (window IN ('total', 'minute', 'hour', 'day', 'month')),
    cap INTEGER CHECK (cap >= 0),       -- what account_limit comes to; null: no limit
    reserved INTEGER NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    spent INTEGER NOT NULL DEFAULT 0 CHECK (spent >= 0),
    start_ns INTEGER NOT NULL DEFAULT 0,
    alert_at INTEGER,                   -- the spending at which the next alert is due
    price REAL NOT NULL DEFAULT 0.0 CHECK (price >= 0),
    priced_ns INTEGER NOT NULL DEFAULT 0,
    priced_spent INTEGER NOT NULL DEFAULT 0,
    step REAL,
    until_ns INTEGER,                   -- of a total: when its budget should be used up
    rated INTEGER NOT NULL DEFAULT 0,   -- of a total: 1 once the resource has windows here, too
    PRIMARY KEY (account, resource, window)
) STRICT, WITHOUT ROWID;

-- Who limits: a person ('') or a document such as the contract. A person's limit wins; else the
-- smallest counts.
CREATE TABLE account_limit(
    account INTEGER NOT NULL REFERENCES account(id),
    resource TEXT NOT NULL,
    window TEXT NOT NULL,
    source TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    PRIMARY KEY (account, source, resource, window)
) STRICT, WITHOUT ROWID;

-- `scope` is the tenant's account: a key means one operation in it. A key that was given back may
-- be used again, as another turn.
CREATE TABLE reservation(
    scope INTEGER NOT NULL REFERENCES account(id),
    key TEXT NOT NULL,
    turn INTEGER NOT NULL,
    account INTEGER NOT NULL REFERENCES account(id),
    state TEXT NOT NULL CHECK (state IN ('open', 'committed', 'refunded', 'expired')),
    made_ns INTEGER NOT NULL,
    expires_ns INTEGER NOT NULL,
    owner INTEGER REFERENCES owner(id), -- null: it has its time only
    amounts TEXT NOT NULL,              -- JSON, resource to amount
    used TEXT,                          -- JSON, once committed
    PRIMARY KEY (scope, key, turn)
) STRICT, WITHOUT ROWID;

CREATE INDEX reservation_due ON reservation(expires_ns) WHERE state = 'open';

-- A process that holds reservations; see owners.py.
CREATE TABLE owner(
    id INTEGER PRIMARY KEY,
    boot TEXT NOT NULL,
    space TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started INTEGER NOT NULL,
    UNIQUE (boot, space, pid, started)
) STRICT;

CREATE TABLE alert(
    id INTEGER PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES account(id),
    resource TEXT NOT NULL,
    window TEXT NOT NULL,
    start_ns INTEGER NOT NULL,
    percent INTEGER NOT NULL,
    cap INTEGER NOT NULL,
    spent INTEGER NOT NULL,
    at_ns INTEGER NOT NULL
) STRICT;

CREATE INDEX alert_account ON alert(account, id);

-- What a tenant wanted of an organisation's window when it was last refused, and of the one before.
CREATE TABLE demand(
    parent INTEGER NOT NULL REFERENCES account(id),
    account INTEGER NOT NULL REFERENCES account(id),
    resource TEXT NOT NULL,
    window TEXT NOT NULL,
    start_ns INTEGER NOT NULL,
    refused INTEGER NOT NULL CHECK (refused >= 0),
    wanted INTEGER NOT NULL CHECK (wanted >= 0),
    before INTEGER NOT NULL CHECK (before >= 0),
    PRIMARY KEY (parent, resource, window, account)
) STRICT, WITHOUT ROWID;
