-- The account that a fork spends under: the one that its parent's session spent from when it forked.
ALTER TABLE agent ADD COLUMN account TEXT;
-- The principal that forked it, as JSON: its session, role and project bind the fork as well.
ALTER TABLE agent ADD COLUMN origin TEXT;
