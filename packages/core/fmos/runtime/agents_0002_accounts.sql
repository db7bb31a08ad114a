-- The account that a fork spends under: the one that its parent's session spent from when it forked.
ALTER TABLE agent ADD COLUMN account TEXT;
