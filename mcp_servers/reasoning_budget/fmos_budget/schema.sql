-- The limits that a contract gave a session, so that a changed contract is noticed and a limit
-- that a person set by hand is left alone.
CREATE TABLE budget_limit(
    account TEXT NOT NULL,
    resource TEXT NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (account, resource)
) STRICT, WITHOUT ROWID;

-- Which operation a reservation is for, and whose it is.
CREATE TABLE budget_admission(
    reservation TEXT PRIMARY KEY,
    operation TEXT NOT NULL,
    account TEXT NOT NULL,
    amounts TEXT NOT NULL,
    settled TEXT
) STRICT, WITHOUT ROWID;
