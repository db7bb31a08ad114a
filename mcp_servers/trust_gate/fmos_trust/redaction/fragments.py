"""The pieces of outgoing texts that could be parts of a secret, in the order in which they left.

A piece is a run of at least eight letters and digits that is no ordinary word or number. Pieces
are joined with those of the next call: a secret that leaves piece by piece comes together there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from fmos.redaction.engine import as_bytes
from fmos_trust.redaction.forms import SHORTEST, undone

#: How much of a session is remembered.
MOST = 64
LONGEST = 512
_RUN = re.compile(f"[A-Za-z0-9+/_-]{{{SHORTEST},}}".encode())
_PLAIN = re.compile(f"[A-Za-z0-9]{{{SHORTEST},}}")
_WORD = re.compile(rb"[A-Z]?[a-z]+(?:[-_/][a-z]+)*|[A-Z_]+|[0-9]+|[-_/+]+")


def pieces(texts: Iterable[str]) -> list[str]:
    """Return the pieces of texts, in order; the last ones, where there are many."""
    data = as_bytes("\n".join(texts))
    for layer in undone(data):
        data = layer.data
    runs = (run for run in _RUN.findall(data) if not _is_word(run))
    return [run[:LONGEST].decode() for run in runs][-MOST:]


def together(found: Iterable[str]) -> list[str]:
    """Return the pieces put together: with the signs of base64 in them, and cut at these."""
    said = list(found)
    plain = (run for piece in said for run in _PLAIN.findall(piece))
    return ["".join(said), "".join(run for run in plain if not _is_word(run.encode()))]


def _is_word(run: bytes) -> bool:
    if run.isalpha() and run[1:].islower():
        return True  # most are
    return _WORD.fullmatch(run) is not None
