"""What differs between a pinned tool and the one that is offered, and whether it is weaker."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from fmos.traps.manifest import Effect, ToolDescriptor
from fmos_trust.pins.model import ServerTools, State
from fmos_trust.pins.names import LookAlikes
from fmos_trust.pins.texts import hidden_in, lines, orders_in, said_by

_STRENGTH: dict[Effect, int] = {"read": 0, "write": 1, "execute": 2, "send": 2}


@dataclass(frozen=True, slots=True)
class Difference:
    """One tool that a person has to decide on.

    Args:
        server: Where it is from.
        name: The tool's name.
        state: What happened to it.
        diff: The lines of a unified diff of its descriptor.
        weaker: What the gate would watch less, one phrase each.
        alerts: What a person should look at, one sentence each.
    """

    server: str
    name: str
    state: State
    diff: tuple[str, ...]
    weaker: tuple[str, ...]
    alerts: tuple[str, ...]


def changed_fields(old: ToolDescriptor, new: ToolDescriptor) -> list[str]:
    """Return the names of the fields that differ."""
    return [name for name in type(old).model_fields if getattr(old, name) != getattr(new, name)]


def weaker(old: ToolDescriptor, new: ToolDescriptor) -> list[str]:
    """Return what the gate would watch less of the new tool, one phrase each."""
    found: list[str] = []
    if new.effect != old.effect and _STRENGTH[new.effect] <= _STRENGTH[old.effect]:
        found.append(f"effect {new.effect} in place of {old.effect}")
    if new.capability != old.capability:
        found.append(f"capability {new.capability!r} in place of {old.capability!r}")
    for name, role in old.roles.items():
        if new.roles.get(name) != role:
            found.append(f"the argument {name!r} is a {role} no longer")
    return found


def differences(tools: ServerTools, others: list[str]) -> Iterator[Difference]:
    """Yield what of a server's tools waits for a person; `others` are names of other servers."""
    mine = LookAlikes([*tools.pins, *others])
    theirs = LookAlikes(others)
    for name in tools.differing():
        pin, wanted = tools.pins.get(name), tools.wanted(name)
        old = pin.tool if pin else None
        before, after = lines(old) if old else [], lines(wanted) if wanted else []
        diff = difflib.unified_diff(before, after, "pinned", "offered", n=1, lineterm="")
        state: State = tools.state(name)
        if name not in tools.offer and name in tools.asked:
            state = "asked"
        yield Difference(
            server=tools.server,
            name=name,
            state=state,
            diff=tuple(diff)[2:],
            weaker=tuple(weaker(old, wanted)) if old and wanted else (),
            alerts=tuple(_alerts(name, old, wanted, mine, theirs)),
        )


def _alerts(
    name: str, old: ToolDescriptor | None, new: ToolDescriptor | None,
    mine: LookAlikes, theirs: LookAlikes,
) -> Iterator[str]:  # fmt: skip
    if new is None:
        return
    known = {*orders_in(old), *hidden_in("".join(said_by(old)))} if old else set[str]()
    for sentence in orders_in(new):
        if sentence not in known:
            yield f"a text of it speaks to the model as an order: {sentence[:200]!r}"
    for char in hidden_in("".join(said_by(new))):
        if char not in known:
            yield f"a text of it holds {char}, which does not show"
    if old is None:
        if theirs.same(name):
            yield "another server has a tool of this name"
        if alike := mine.looks_like(name):
            yield f"its name looks like {alike!r}"
        elif alike := mine.near(name):
            yield f"its name is one character away from {alike!r}"
