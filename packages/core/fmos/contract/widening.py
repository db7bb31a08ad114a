"""For each kind of field, which change of it lets an agent do more."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from fmos.contract.globs import covers, matches_name
from fmos.contract.manifest import MODES
from fmos.contract.model import parse_amount
from fmos.contract.requirements import quantity
from fmos.types import Record

Effect = Literal["wider", "narrower", "changed"]


class Change(Record):
    """One difference in one field; a granted or withdrawn item stands alone in its line."""

    field: str
    effect: Effect
    said: str


Rule = Callable[[str, Any, Any], Iterator[Change]]


def leaves(
    before: Mapping[str, Any], after: Mapping[str, Any], rules: Mapping[str, Rule], at: str = ""
) -> Iterator[Change]:
    """Compare two mappings field by field, each by its rule, or by that of the nearest above it."""
    for name in dict.fromkeys([*before, *after]):
        field = f"{at}.{name}" if at else name
        old, new = before.get(name), after.get(name)
        if isinstance(old, dict) or isinstance(new, dict):
            yield from leaves(old or {}, new or {}, rules, field)
        elif old != new:
            yield from _rule_for(field, rules)(field, old, new)


def _rule_for(field: str, rules: Mapping[str, Rule]) -> Rule:
    parts = field.split(".")
    above = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((rules[name] for name in above if name in rules), text)


def text(field: str, old: Any, new: Any) -> Iterator[Change]:
    """Compare values without a direction."""
    if old != new:
        yield Change(field=field, effect="changed", said=f"{_shown(old)} -> {_shown(new)}")


def ranked(field: str, old: str, new: str) -> Iterator[Change]:
    """Compare binding modes: the later in the list may choose more."""
    if old != new:
        wider = MODES.index(new) > MODES.index(old)  # type: ignore[arg-type]
        yield Change(field=field, effect=_effect(wider=wider), said=f"{old} -> {new}")


def _items(field: str, old: Any, new: Any, *, more_is_wider: bool) -> Iterator[Change]:
    before, after = list(old or ()), list(new or ())
    for item in before:
        if item not in after:
            said = f"{'withdrawn' if more_is_wider else 'no longer'} {_shown(item)}"
            yield Change(field=field, effect=_effect(wider=not more_is_wider), said=said)
    for item in after:
        if item not in before:
            said = f"{'granted' if more_is_wider else 'added'} {_shown(item)}"
            yield Change(field=field, effect=_effect(wider=more_is_wider), said=said)


def granted(field: str, old: Any, new: Any) -> Iterator[Change]:
    """Compare lists of which each item lets the agent do more."""
    return _items(field, old, new, more_is_wider=True)


def demanded(field: str, old: Any, new: Any) -> Iterator[Change]:
    """Compare lists of which each item lets the agent do less."""
    return _items(field, old, new, more_is_wider=False)


def limit(field: str, old: Any, new: Any) -> Iterator[Change]:
    """Compare two amounts, of which none is no limit."""
    if old != new:
        wider = new is None or (old is not None and new > old)
        yield _moved(field, old, new, wider=wider)


def required(field: str, old: Any, new: Any) -> Iterator[Change]:
    """Compare duties that hold or do not."""
    if bool(old) != bool(new):
        yield _moved(field, bool(old), bool(new), wider=bool(old))


def text_demand(field: str, old: Any, new: Any) -> Iterator[Change]:
    """Compare what must be done, such as tracing: to stop it is wider."""
    if bool(old) != bool(new):
        yield _moved(field, old or None, new or None, wider=bool(old))
    else:
        yield from text(field, old, new)


def quantities(field: str, old: Any, new: Any) -> Iterator[Change]:
    """Compare shares of the machine: more is wider, none is what the host gives."""
    name = field.rpartition(".")[2]
    texts = [each[0] if isinstance(each, tuple) and each else each for each in (old, new)]
    amounts = [quantity(name, str(text)) if text is not None else None for text in texts]
    if None not in amounts and amounts[0] != amounts[1]:
        yield from _limit_said(field, texts, amounts)
    elif old != new:
        yield from text(field, old, new)


def first_number(field: str, old: Any, new: Any) -> Iterator[Change]:
    """Compare limits as binding documents write them, in a list of one."""
    amounts = [parse_amount(each[0]) if each else None for each in (old, new)]
    numbers = [float(each) if isinstance(each, int) else None for each in amounts]
    if old != new:
        yield from _limit_said(field, amounts, numbers)


def _limit_said(field: str, texts: list[Any], amounts: list[Any]) -> Iterator[Change]:
    wider = amounts[1] is None or (amounts[0] is not None and amounts[1] > amounts[0])
    yield _moved(field, texts[0], texts[1], wider=wider)


def alternatives(field: str, old: Any, new: Any) -> Iterator[Change]:
    """Compare the values of which one must be had: none demanded is wider than any list."""
    if (old is None) != (new is None):
        yield _moved(field, old, new, wider=new is None)
    elif old is not None and (set(old) == set(new) or _is_number(old, new)):
        yield from text(field, old, new)
    else:
        yield from granted(field, old, new)


def _is_number(*values: Any) -> bool:
    """Return whether each of the values is one number, of which we do not know which is wider."""
    return all(len(each) == 1 and isinstance(parse_amount(each[0]), int) for each in values)


def allow_list(open_value: Any, covered: Callable[[Any, str], bool]) -> Rule:
    """Return the rule for an allow-list of globs, of which one value (none, or []) means all."""

    def rule(field: str, old: Any, new: Any) -> Iterator[Change]:
        if old == open_value or new == open_value:
            yield _moved(
                field,
                "anything" if old == open_value else old,
                "anything" if new == open_value else new,
                wider=new == open_value,
            )
            return
        for item in old:
            if item not in new:
                effect: Effect = "changed" if covered(new, item) else "narrower"
                yield Change(field=field, effect=effect, said=f"withdrawn {item}")
        for item in new:
            if item not in old:
                effect = "changed" if covered(old, item) else "wider"
                yield Change(field=field, effect=effect, said=f"granted {item}")

    return rule


#: What stands for `**`, `*` and `?` when a glob is tried on others: nothing, something, and more.
_SAMPLES = (("", "", "7"), ("q/w.e/rt7", "uio7", "z"), (".p7", "7.asd", "q"))


def _path_covered(patterns: list[str], glob: str) -> bool:
    return all(covers(patterns, sample) for sample in _samples(glob))


def _name_covered(patterns: list[str], glob: str) -> bool:
    return all(matches_name(patterns, sample) for sample in _samples(glob))


def _samples(glob: str) -> list[str]:
    """Return names that a glob means, varied enough that what covers all of them covers it."""
    tokens = re.split(r"(\*\*|\*|\?)", glob)
    wild = [token for token in tokens if token in ("**", "*", "?")][:4]
    found: list[str] = []
    for chosen in itertools.product(_SAMPLES, repeat=len(wild)):
        values = iter(chosen)
        parts = [
            next(values, _SAMPLES[1])[("**", "*", "?").index(token)]
            if token in ("**", "*", "?")
            else token
            for token in tokens
        ]
        found.append("".join(parts))
    return found


def _moved(field: str, old: Any, new: Any, *, wider: bool) -> Change:
    none = "no limit" if not isinstance(old, str) and not isinstance(new, str) else "none"
    said = " -> ".join(none if each is None else _shown(each) for each in (old, new))
    return Change(field=field, effect=_effect(wider=wider), said=said)


def _effect(*, wider: bool) -> Effect:
    return "wider" if wider else "narrower"


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value)) or "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None or value == "" else str(value)


UNITS = ("cpu", "mem", "gpu")

CONTRACT: dict[str, Rule] = {
    "capabilities": granted,
    "compute": quantities,
    "modelPolicy.allow": allow_list([], _name_covered),
    "modelPolicy.also_allow": demanded,
    "modelPolicy.max_context_tokens": limit,
    "memory.retention_days": limit,
    "memory.rag.require_grounding": required,
    "security.consent_for": demanded,
    "security.sync_for": demanded,
    "security.deny": demanded,
    "security.paths.read": allow_list(["/**"], _path_covered),
    "security.paths.write": allow_list(["/**"], _path_covered),
    "security.paths": demanded,
    "security.recipients": allow_list(None, _name_covered),
    "security.also_recipients": demanded,
    "observability.tracing": text_demand,
    "observability.log_fields": demanded,
    "budgets": limit,
}
POLICY: dict[str, Rule] = {
    "must.capabilities": allow_list(None, lambda names, name: name in names),
    "must.deny": demanded,
    "must.models": allow_list(None, _name_covered),
    "must.max_context_tokens": limit,
    "must.consent_for": demanded,
    "must.sync_for": demanded,
    "must.paths": allow_list(None, _path_covered),
    "must.recipients": allow_list(None, _name_covered),
    "must.budgets": limit,
    "must.retention_days": limit,
    "must.require_grounding": required,
    "must.compute": quantities,
    "must.latency": allow_list(None, lambda names, name: name in names),
    "must.tracing": text_demand,
    "must.log_fields": demanded,
    "must.never_log": demanded,
}
