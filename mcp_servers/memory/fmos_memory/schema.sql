-- The search index of memories, in the tenant's volume. Keyed by node id: a file version never
-- changes, so one row serves every branch that shares the version. Which rows a branch sees is
-- decided by its tree alone. Written by store.py only.
CREATE TABLE IF NOT EXISTS ext_memory_item(
    node INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    namespace TEXT NOT NULL
) STRICT;

CREATE INDEX IF NOT EXISTS ext_memory_item_id ON ext_memory_item(id);

-- Contentless: the text is in the file, the index only points at it.
CREATE VIRTUAL TABLE IF NOT EXISTS ext_memory_fts USING fts5(
    text, tags, content='', contentless_delete=1, tokenize='porter unicode61'
);

-- gc takes the versions that no state has any more, and their rows here with them.
CREATE TRIGGER IF NOT EXISTS ext_memory_gone AFTER DELETE ON node BEGIN
    DELETE FROM ext_memory_item WHERE node = old.id;
    DELETE FROM ext_memory_fts WHERE rowid = old.id;
END;
