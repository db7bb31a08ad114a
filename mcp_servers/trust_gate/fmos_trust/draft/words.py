"""Says a rule in the controlled English that `fmos policy draft` reads back as the same rule."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from fmos.contract.trust_policy import Constraint, Selector, TrustRule
from fmos_trust.draft.conditions import DAYS, POINTERS

_NAMES = {
    "*deploy*": "deployments", "*pay*": "payments", "*transfer*": "transfers",
    "*refund*": "refunds", "*upload*": "uploads", "*download*": "downloads", "*": "tool calls",
}  # fmt: skip
_EFFECTS = {"read": "reads", "write": "writes", "send": "messages", "execute": "commands"}
_CAPABILITIES = {
    "fs.write": "file writes", "fs.read": "file reads", "web.fetch": "web requests",
}  # fmt: skip
_BEGINS = {
    ("deny", 0): "no", ("deny", 100): "never", ("ask", 0): "ask before",
    ("allow", 10): "allow", ("allow", 20): "always allow",
}  # fmt: skip
_DAYS = dict(zip(DAYS, ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays",
                        "Sundays"), strict=True))  # fmt: skip
_SOURCES = {
    "user": "the user", "contract": "the contract", "memory": "memory", "text": "text",
    "field": "a field", "system": "the system", "agent": "another agent", "none": "nowhere",
}  # fmt: skip
_ARGUMENTS = {pointer: name for name, pointer in POINTERS.items() if name != "target"}
_CLOCK = r'time\.clock >= "([\d:]+)"'
_CLOCK_END = r'time\.clock < "([\d:]+)"'


class _UnsaidError(Exception):
    """The rule has something that the grammar has no words for."""


def in_words(rule: TrustRule) -> str:
    """Return a sentence that drafts this rule; empty where the grammar has no words for it."""
    try:
        return _said(rule)
    except _UnsaidError:
        return ""


def _said(rule: TrustRule) -> str:
    if rule.rewrite or rule.canary is not None or rule.change:
        raise _UnsaidError
    if rule.effect == "redact" and rule.priority == 0:
        data = {"secrets": "secrets", "pii": "personal data"}
        begin = f"mask {' and '.join(data[each] for each in rule.redact)} in"
    else:
        begin = _BEGINS.get((rule.effect, rule.priority), "")
    if not begin:
        raise _UnsaidError
    given: list[str] = []
    unless: list[str] = []
    but: list[str] = []
    for pointer, constraint in rule.args.items():
        (unless if constraint.negated else given).append(_argument(pointer, constraint))
    for pointer, kinds in rule.sources.items():
        listed = " or ".join(_SOURCES[each] for each in kinds)
        given.append(f"if {_named(pointer)} comes from {listed}")
    for cel in _parts(rule.when):
        negated = cel.startswith("!(") and cel.endswith(")")
        plain = cel[2:-1] if negated else cel
        tool = _tool(plain)
        if tool and negated:
            but.append(tool)
        else:
            (unless if negated else given).append(_expression(plain))
    words = [begin, " and ".join(_selector(each) for each in rule.tools), *given]
    words += [f"except {each}" for each in but]
    if unless:
        words.append(f"unless {' or '.join(unless)}")
    return " ".join(words)


def _selector(selector: Selector) -> str:
    if selector.name:
        return _NAMES.get(selector.name) or f'tool "{selector.name}"'
    if selector.capability:
        named = _CAPABILITIES.get(selector.capability)
        return named or f'capability "{selector.capability}"'
    return _EFFECTS[str(selector.effect)]


def _named(pointer: str) -> str:
    return f"the {_ARGUMENTS[pointer]}" if pointer in _ARGUMENTS else pointer


def _argument(pointer: str, constraint: Constraint) -> str:
    given = constraint.model_dump(by_alias=True, exclude_unset=True, exclude={"type", "negated"})
    given.pop("not", None)
    if constraint.type == "amount" and len(given) == 1:
        words = {"above": "above", "below": "below", "max": "at most", "min": "at least"}
        (name, limit), = given.items()  # fmt: skip
        at = "" if pointer == POINTERS["amount"] else f" at {pointer}"
        if name in words:
            return f"{words[name]} {limit}{at}"
    if constraint.type == "text" and set(given) == {"one_of"}:
        values = " or ".join(json.dumps(each) for each in constraint.one_of)
        return f"if {_named(pointer)} is {values}"
    return _at_its_place(pointer, constraint, set(given))


def _at_its_place(pointer: str, constraint: Constraint, given: set[str]) -> str:
    """Return a condition that is only said of the usual argument of its type."""
    places = (*constraint.domain, *constraint.address)
    kinds = {
        "email": ("recipient", {"domain", "address"}, places, "to"),
        "path": ("path", {"under"}, constraint.under, "in"),
        "url": ("url", {"host"}, constraint.host, "to the host"),
        "command": ("command", {"programs"}, constraint.programs, "starting"),
    }  # fmt: skip
    found = kinds.get(str(constraint.type))
    if found is None or not given <= found[1] or pointer != POINTERS[found[0]]:
        raise _UnsaidError
    return f"{found[3]} {' and '.join(found[2])}"


def _tool(cel: str) -> str:
    for form, words in (
        (r'tool\.name == "([^"]+)"', 'tool "{}"'),
        (r'tool\.capability == "([^"]+)"', 'capability "{}"'),
    ):
        found = re.fullmatch(form, cel)
        if found:
            return words.format(found[1])
    found = re.fullmatch(r'tool\.effect == "(\w+)"', cel)
    if found:
        return _EFFECTS[found[1]]
    found = re.fullmatch(r'tool\.name\.matches\("\^(.+)\$"\)', cel)
    if found:
        glob = found[1].replace(".*", "*").replace("\\\\", "")
        return f'tool "{glob}"'
    return ""


def _expression(cel: str) -> str:
    for form, words in (
        (r'time\.date == "([\d-]+)"', "on {}"),
        (_CLOCK, "after {}"),
        (_CLOCK_END, "before {}"),
        (rf"\({_CLOCK} (?:&&|\|\|) {_CLOCK_END}\)", "between {} and {}"),
        (r'"([\w.*:@-]+)" in principal\.roles', "by the role {}"),
        (r'principal\.agent == "([^"]+)"', "by the agent {}"),
        (r"counters\.session >= (\d+)", "more than {} times a session"),
        (r"counters\.today >= (\d+)", "more than {} times a day"),
    ):
        found = re.fullmatch(form, cel)
        if found:
            return words.format(*found.groups())
    found = re.fullmatch(r"time\.weekday in \[([^\]]+)\]", cel)
    if found:
        return f"on {' and '.join(_DAYS[each] for each in re.findall(r'[a-z]+', found[1]))}"
    found = re.fullmatch(r'\("(\w+)" in ledger\.left && ledger\.left\.\1 < (\d+)\)', cel)
    if found:
        return f"when less than {found[2]} {found[1]} are left"
    raise _UnsaidError


def _parts(cel: str) -> Iterator[str]:
    """Yield what stands between the `&&` that no bracket is around."""
    depth = 0
    begin = 0
    for place, sign in enumerate(cel):
        depth += (sign in "([") - (sign in ")]")
        if depth == 0 and cel.startswith(" && ", place):
            yield cel[begin:place]
            begin = place + 4
    if cel[begin:]:
        yield cel[begin:]
