"""Keeps memories as files on the agent's branch, and one search index per volume.

A row of the index counts for a branch only while the branch's path resolves to exactly that file
version. So a fork finds its parent's memories at once, a restore hides later ones, and nothing is
ever copied or rebuilt.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

from agentfs import AgentFS
from fmos_memory.model import MemoryItem
from fmos_memory.recall import index_text, match_expression

_FOLDER = "/.fmos/memory"
_SCHEMA = files("fmos_memory").joinpath("schema.sql").read_text("utf-8")
_FIRST_PAGE = 64

_INSERT_ITEM = "INSERT OR REPLACE INTO ext_memory_item(node, id, namespace) VALUES (?, ?, ?)"
_INSERT_TEXT = "INSERT OR REPLACE INTO ext_memory_fts(rowid, text, tags) VALUES (?, ?, ?)"
_NAMESPACE_OF = "SELECT DISTINCT namespace FROM ext_memory_item WHERE id = ?"
# A tag that matches says more than a word of the text.
_MATCHES = """
SELECT item.node, item.id, item.namespace, -bm25(ext_memory_fts, 1.0, 2.0) AS score
FROM ext_memory_fts JOIN ext_memory_item AS item ON item.node = ext_memory_fts.rowid
WHERE ext_memory_fts MATCH ?1 AND (?2 = '' OR item.namespace = ?2)
ORDER BY score DESC, item.node DESC LIMIT ?3 OFFSET ?4
"""


class MemoryStore:
    """The memories of one branch."""

    def __init__(self, fs: AgentFS) -> None:
        self._fs = fs
        self._index = fs.extension("memory", _SCHEMA)

    def put(self, item: MemoryItem) -> MemoryItem:
        """Write the memory and its index row in one transaction."""
        path = _path(item.namespace, item.id)
        with self._fs.transaction():
            self._fs.mkdir(f"{_FOLDER}/{item.namespace}", parents=True, exist_ok=True)
            self._fs.write(path, item.model_dump_json(exclude={"node"}).encode())
            node = self._fs.stat(path).node
            self._add(node, item)
        return item.model_copy(update={"node": node})

    def index_all(self) -> int:
        """Index every memory of the branch, as of one that came from elsewhere; return how many."""
        count = 0
        with self._fs.transaction():
            for path in self._fs.glob(f"{_FOLDER}/*/*.json"):
                node = self._fs.stat(path).node
                self._add(node, self._read(path, node))
                count += 1
        return count

    def _add(self, node: int, item: MemoryItem) -> None:
        self._index.execute(_INSERT_ITEM, (node, item.id, item.namespace))
        words = (index_text(item.text), index_text(" ".join(item.tags)))
        self._index.execute(_INSERT_TEXT, (node, *words))

    def get(self, memory: str) -> MemoryItem | None:
        """Return the memory, or None where the branch has none of that id."""
        for (namespace,) in self._index.query(_NAMESPACE_OF, (memory,)):
            path = _path(namespace, memory)
            node = self._node(path)
            if node is not None:
                return self._read(path, node)
        return None

    def search(self, query: str, namespace: str) -> Iterator[tuple[MemoryItem, float]]:
        """Yield what the branch sees of the matches with their scores, best first."""
        expression = match_expression(query)
        offset, size = 0, _FIRST_PAGE
        while expression:
            rows = self._index.query(_MATCHES, (expression, namespace, size, offset))
            for node, memory, found_in, score in rows:
                path = _path(found_in, memory)
                if self._node(path) == node:
                    yield self._read(path, node), score
            if len(rows) < size:
                return
            # Other branches may own most matches, so each further page is larger.
            offset, size = offset + size, size * 4

    def _node(self, path: str) -> int | None:
        try:
            return self._fs.stat(path).node
        except FileNotFoundError:
            return None

    def _read(self, path: str, node: int) -> MemoryItem:
        item = MemoryItem.model_validate_json(self._fs.read(path))
        return item.model_copy(update={"node": node})


def _path(namespace: str, memory: str) -> str:
    return f"{_FOLDER}/{namespace}/{memory}.json"
