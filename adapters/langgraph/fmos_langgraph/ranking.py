"""Full text search over the items of a store: BM25 by SQLite, in memory.

Owns the texts of items and their order for a query; which items there are is catalogue.py's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import apsw
from langgraph.store.base import get_text_at_path

Index = Literal[False] | list[str] | None
"""What of an item is found by a query: nothing, some paths, or what its store says."""

_TABLE = (
    "CREATE VIRTUAL TABLE words USING fts5(text, content='', contentless_delete=1,"
    " tokenize='porter unicode61 remove_diacritics 2')"
)
_ADD = "INSERT INTO words(rowid, text) VALUES (?, ?)"
_REMOVE = "DELETE FROM words WHERE rowid = ?"
_FIND = "SELECT rowid, -bm25(words) FROM words WHERE words MATCH ?"
_WORD = re.compile(r"[^\W_]+")


class TextIndex:
    """Texts by number, and which of them fit a query; the caller sees to threads."""

    def __init__(self) -> None:
        """Begin empty."""
        self._connection = apsw.Connection(":memory:")
        self._connection.execute(_TABLE)

    def add(self, rows: Iterable[tuple[int, str]]) -> None:
        """Take in texts with their numbers, which are new."""
        with self._connection:
            self._connection.executemany(_ADD, ((row, _clean(text)) for row, text in rows))

    def remove(self, row: int) -> None:
        """Forget a text."""
        self._connection.execute(_REMOVE, (row,))

    def scores(self, query: str) -> dict[int, float]:
        """Return the texts that have any word of the query, with scores: more is better."""
        words = dict.fromkeys(_WORD.findall(_clean(query)))
        if not words:
            return {}
        wanted = " OR ".join(f'"{word}"' for word in words)
        return dict(self._connection.execute(_FIND, (wanted,)))


def text_of(value: Mapping[str, Any], index: Index, fields: Sequence[str]) -> str:
    """Return what of an item a query finds: `index` where it says something, else `fields`.

    The field "$" is every text and number in the value, without the names of its fields.
    """
    if index is False:
        return ""
    parts: list[str] = []
    plain = json.loads(json.dumps(value, default=str, skipkeys=True))
    for path in fields if index is None else index:
        parts += _leaves(plain) if path == "$" else get_text_at_path(plain, path)
    return "\n".join(parts)


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _leaves(each)
    elif value is not None:
        yield str(value)


def _clean(text: str) -> str:
    """Return a text that SQLite takes: lone surrogates and NUL are no words."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode("utf-8")
