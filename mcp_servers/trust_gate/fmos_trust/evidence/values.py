"""The values of a call: what each argument means, where it came from, and how strange that is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fmos_trust.evidence.catalogue import SAID, TERMS, Role, ToolFacts, role_of
from fmos_trust.evidence.intent import Request
from fmos_trust.evidence.normal import canonical, plain
from fmos_trust.evidence.provenance import Origin, Provenance

_MOST_VALUES = 64
#: What is beyond is not looked at: secrets in it are another rule's matter.
_LONGEST_VALUE = 20_000
_LONGEST_TITLE = 60

#: How strange a target is by where it came from.
_STRANGE = {
    "user": 0.0, "trusted": 0.0, "linked": 0.05, "beside": 0.15, "granted": 0.15, "field": 0.25,
    "text": 0.75, "order": 1.0, "near": 1.0, "nowhere": 0.5,
}  # fmt: skip
#: The same for when and how much, which models compute.
_STRANGE_TERM = _STRANGE | {"text": 0.4, "nowhere": 0.2, "near": 0.2, "field": 0.1}
#: The same for addresses, accounts and ids, which nobody invents.
_STRANGE_POINTER = _STRANGE | {"field": 0.6, "text": 1.0, "nowhere": 1.0}
_POINTING: frozenset[Role] = frozenset({"account", "url", "id", "credential"})
_POINTING_DIGITS = 6
_FOLLOWED = 0.1
_MADE = 0.1

_TIME = re.compile(r"\d{4}-\d\d?-\d\d?(?:[ t]\d\d?:\d\d(?::\d\d)?)?")


@dataclass(frozen=True, slots=True)
class Given:
    """One value of a call."""

    name: str
    role: Role
    text: str
    value: str
    origin: Origin
    strange: float


class Reader:
    """Reads the values of calls against what a session knows."""

    def __init__(self, request: Request, provenance: Provenance) -> None:
        self._request, self._provenance = request, provenance

    def read(self, tool: ToolFacts, arguments: Mapping[str, Any]) -> list[Given]:
        """Return the values of a call; at most 64 of them."""
        found: list[Given] = []
        for name, argument in arguments.items():
            role = tool.roles.get(name) or role_of(name, None)
            if role == "option":
                continue
            for text in leaves(argument):
                if len(found) == _MOST_VALUES:
                    return found
                found.append(self._one(tool, name, role, text[:_LONGEST_VALUE]))
        return found

    def _one(self, tool: ToolFacts, name: str, role: Role, text: str) -> Given:
        if role in SAID and len(text) > _LONGEST_TITLE:
            return Given(name, role, text, "", Origin("nowhere"), 0.0)
        value = canonical(text)
        if role in ("name", "id") and _TIME.fullmatch(value):
            role = "when"
        if role == "when" and self._request.names_date(plain(text)):
            return Given(name, role, text, value, Origin("user", "your request"), 0.0)
        origin = self._provenance.of(value, tool, role in _POINTING)
        if role == "when" and origin.kind in ("nowhere", "near"):
            origin = self._provenance.of_date(text)
        return Given(name, role, text, value, origin, self._strange(tool, role, value, origin))

    def _strange(self, tool: ToolFacts, role: Role, value: str, origin: Origin) -> float:
        """Return from 0 to 1 how strange it is that a value came from there."""
        if role in TERMS:
            return _STRANGE_TERM[origin.kind]
        if not tool.changes and origin.kind in ("text", "order", "field"):
            return _FOLLOWED  # a link that was read; what is put into a link is nowhere
        if role in _POINTING or "@" in value or sum(map(str.isdigit, value)) >= _POINTING_DIGITS:
            return _STRANGE_POINTER[origin.kind]
        if origin.kind != "nowhere":
            return _STRANGE[origin.kind]
        if tool.creates and role in ("path", "name"):
            return _MADE
        return _STRANGE["nowhere"] * (1 - self._request.says(value))


def leaves(value: Any) -> Iterator[str]:
    """Yield the values of an argument as texts; truth values and null are none."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from leaves(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from leaves(each)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
