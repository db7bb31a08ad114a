"""Turns text and questions into what the full-text index understands; no SQL, no files."""

from __future__ import annotations

import re

_MAX_TERMS = 64
_SEPARATORS = re.compile(r"[\x00-\x20!-/:-@\[-`{-\x7f\s]+")

#: Scripts written without spaces: each character becomes a word of its own, in index and query.
_UNSPACED = re.compile(r"([\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])")

_STOP_WORDS = frozenset(
    "a about an and any are as at be been but by can could did do does for from had has have how i"  # noqa: SIM905
    " if in is it its me my of on or our she should so that the their them then there these they"
    " this to was we were what when where which who whom why will with would you your".split()
)


def index_text(text: str) -> str:
    """Return the text as it goes into the index."""
    return _UNSPACED.sub(r" \1 ", text.replace("\x00", " "))


def match_expression(query: str) -> str:
    """Return an FTS5 expression that matches any word of the query; "" when it has no words.

    Stop words count only when there is nothing else. Every term is quoted, so that no character
    of the query is taken as an operator.
    """
    words = [word for word in _SEPARATORS.split(query.lower()) if word]
    chosen = [word for word in words if word not in _STOP_WORDS] or words
    terms = dict.fromkeys(index_text(word).strip() for word in chosen)
    return " OR ".join(f'"{term}"' for term in list(terms)[:_MAX_TERMS])
