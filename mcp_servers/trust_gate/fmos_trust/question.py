"""The question to a person about a call that waits, the same at a terminal and in a client.

It has all of the call, and nothing that a terminal would obey.

A long text shows its beginning and its end, and says how much is left out; `view` shows the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from fmos_trust.model import Approval
from fmos_trust.shown import lines_of, scripts_of, visible

_HEAD_LINES = 30
_TAIL_LINES = 15
_LETTERS = {"added": "A", "modified": "M", "removed": "D", "mode": "P", "type": "T"}
#: How the lines of a difference are shown, by what they begin with.
_STYLES = {"+": "green", "-": "red", "@": "cyan"}

Line = tuple[str, str]
"""A line and its style."""


def screen(
    item: Approval, now_ns: int, asked_of: tuple[str, ...], *, whole: bool
) -> Iterator[Line]:
    """Yield the lines of one question.

    Args:
        item: What waits.
        now_ns: The time.
        asked_of: Who may answer it now; empty for anybody at a terminal.
        whole: Show every line, not only the beginning and the end of long parts.
    """
    who = item.principal
    of = f"{item.server}: " if item.server else ""
    yield f"{of}{item.tool}", "bold"
    names = (("tenant", who.tenant), ("application", who.application), ("agent", who.agent),
             ("session", who.session), ("role", who.role), ("branch", who.branch))  # fmt: skip
    yield "  by " + ", ".join(f"{name} {visible(value)}" for name, value in names if value), ""
    yield f"  {_times(item, now_ns, asked_of)}", ""
    yield f"  approval {item.id}", "dim"
    yield "arguments", "bold"
    yield from _cut(list(_arguments(item)), whole)
    yield "why it is asked", "bold"
    yield from _reasons(item)
    if item.effect is not None:
        yield from _effect(item, whole)


def message(item: Approval, now_ns: int, asked_of: tuple[str, ...]) -> str:
    """Return the question as one text, for a client to show."""
    lines = (line for line, _ in screen(item, now_ns, asked_of, whole=False))
    return "\n".join(lines)


def _times(item: Approval, now_ns: int, asked_of: tuple[str, ...]) -> str:
    second = 1_000_000_000
    asked, left = (now_ns - item.created_ns) // second, (item.expires_ns - now_ns) // second
    said = f"asked {asked} s ago, {left} s left"
    if item.escalated(now_ns):
        said += ", ESCALATED: half of the time is over"
    return f"{said}; may be answered by {visible(', '.join(asked_of))}" if asked_of else said


def _arguments(item: Approval) -> Iterator[Line]:
    for line in _readable(item.shown).split("\n"):
        yield f"  {visible(line)}", ""
    scripts = scripts_of(item.shown)
    if scripts:
        yield f"  note: it mixes letters of {', '.join(scripts)}: look twice at names", "yellow"


def _readable(shown: str) -> str:
    """Return the arguments one a line, where they are whole."""
    try:
        found = json.loads(shown)
    except ValueError:
        return shown
    if not isinstance(found, dict):
        return shown
    lines = []
    for name, value in found.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        parts = text.split("\n")
        lines.append(f"{visible(name)} = {visible(parts[0])}")
        lines += [f"    | {visible(part)}" for part in parts[1:]]
    return "\n".join(lines) or "(none)"


def _reasons(item: Approval) -> Iterator[Line]:
    for each in item.findings:
        layer = f"[{each.layer}] " if each.layer else ""
        rule = f" (rule {each.rule})" if each.rule else ""
        yield f"  {layer}{visible(each.message)}{visible(rule)}", "yellow"
        if each.change:
            yield f"    would be different: {visible(each.change)}", "dim"


def _effect(item: Approval, whole: bool) -> Iterator[Line]:
    assert item.effect is not None
    count = len(item.effect.paths)
    yield f"what it did on a fork: {count} path{'s' * (count != 1)}; yes brings it about", "bold"
    listed = [
        (f"  {_LETTERS.get(kind, '?')} {visible(path)}{f'  {size:,} bytes' if size else ''}", "")
        for kind, path, size in item.effect.paths
    ]
    yield from _cut(listed, whole)
    patch = lines_of(item.effect.patch.rstrip("\n"))
    yield from _cut([(f"  {line}", _STYLES.get(line[:1], "")) for line in patch if line], whole)


def _cut(lines: list[Line], whole: bool) -> Iterator[Line]:
    """Yield lines, or the first and the last of many."""
    if whole or len(lines) <= _HEAD_LINES + _TAIL_LINES:
        yield from lines
        return
    left = len(lines) - _HEAD_LINES - _TAIL_LINES
    yield from lines[:_HEAD_LINES]
    yield f"  ... {left} lines are left out: `view` shows them ...", "yellow"
    yield from lines[-_TAIL_LINES:]
