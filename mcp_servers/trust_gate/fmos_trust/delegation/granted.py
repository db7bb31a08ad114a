"""What a grant lifts: the objection that the targets of a call come out of a stranger's text.

Narrowly: every argument but the body must stand in the one source that the grant names, or come
from the user, and nothing else may be said against the call's provenance. What a text says beyond
that, and values that leak, stop the call as before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from fmos.entered.log import Entry
from fmos.redaction import texts_in
from fmos.runtime.kernel import Kernel
from fmos_trust.delegation.model import Grant, Source
from fmos_trust.evidence.normal import canonical, plain, words
from fmos_trust.facts import Facts
from fmos_trust.findings import Finding, Judge, finding

#: The code of a finding that names, as its rule, the grant that a call uses.
GRANTED = "trust.granted"

_STAYS = ("leak", "content", "unreadable", "destructive")
_SURE = frozenset({"user", "system", "contract"})


class Granted:
    """A judge of provenance that knows what a person granted."""

    def __init__(self, kernel: Kernel, judge: Judge) -> None:
        self._kernel = kernel
        self._judge = judge

    def judge(self, facts: Facts) -> Iterator[Finding]:
        """Find what provenance has against a call, or the grant that it is under."""
        found = list(self._judge(facts))
        stops = [each.reason.code for each in found if each.effect in ("deny", "ask")]
        grant = None
        if stops and not any(code.endswith(_STAYS) for code in stops):
            grant = next((each for each in facts.grants if self._covers(each, facts)), None)
        if grant is None:
            yield from found
            return
        said = f"a person granted that {facts.tool!r} does what {grant.source.said} says"
        yield finding("note", "execution", GRANTED, said, rule=grant.id)

    def _covers(self, grant: Grant, facts: Facts) -> bool:
        """Return whether every argument stands in the grant's source, or comes from the user."""
        if facts.seen is None:
            return False
        texts = list(self._texts(grant.source, facts))
        covered = False
        for name, value in facts.operation.arguments.items():
            role = facts.roles.get(name, "")
            if role == "body" and "body" not in grant.targets:
                continue
            for text in texts_in(value, numbers=True):
                if facts.seen.came_from(text) & _SURE:
                    continue
                if not grant.is_for(facts.tool, role) or not any(_holds(t, text) for t in texts):
                    return False
                covered = True
        return covered

    def _texts(self, source: Source, facts: Facts) -> Iterator[str]:
        """Yield what the session has of a grant's source: the whole text, or the named field."""
        for origin in self._kernel.entered.origins(facts.operation.principal):
            for _, entry in self._kernel.entered.since(origin.place, 0):
                text = _text_of(entry, source) if origin.own else None
                if text:
                    yield text


def _text_of(entry: Entry, source: Source) -> str | None:
    if entry.kind != "tool" or entry.text is None or source.tool not in ("", entry.source):
        return None
    if source.digest and hashlib.sha256(entry.text.encode()).hexdigest() != source.digest:
        return None
    return _field(entry.text, source.field) if source.field else entry.text


def _field(text: str, pointer: str) -> str | None:
    """Return the text at a JSON pointer; None where there is none."""
    try:
        value: Any = json.loads(text)
    except ValueError:
        return None
    for part in pointer.lstrip("/").split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value if isinstance(value, str) else json.dumps(value)


def _holds(text: str, value: str) -> bool:
    """Return whether a value stands in a text, word for word."""
    spaced = f" {' '.join(words(plain(text)))} "
    wanted = " ".join(words(plain(canonical(value))))
    return bool(wanted) and f" {wanted} " in spaced
