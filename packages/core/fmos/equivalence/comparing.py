"""Compares two runs of one sequence: what can be observed must be the same, within a tolerance."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from fmos.equivalence.model import Difference, Tolerance
from fmos.equivalence.running import Row, Run

_SHOWN = 200


def differences(first: Run, second: Run, tolerance: Tolerance) -> tuple[Difference, ...]:
    """Return what differs, step by step and then at the end."""
    found = [*_steps(first, second, tolerance), *_files(first, second)]
    found += [*_memories(first, second), *_spending(first, second, tolerance)]
    if tolerance.history:
        found += _history(first, second, tolerance)
    return tuple(found)


def _steps(first: Run, second: Run, tolerance: Tolerance) -> Iterator[Difference]:
    for one, other in zip(first.seen, second.seen, strict=True):
        for key in sorted({*one.facts, *other.facts}):
            if key == "reasons" and not tolerance.reasons:
                continue
            here, there = one.facts.get(key), other.facts.get(key)
            if here != there:
                what = f"{one.what}: {key}"
                yield Difference(
                    what=what, index=one.index, first=_shown(here), second=_shown(there)
                )


def _files(first: Run, second: Run) -> Iterator[Difference]:
    for path in sorted({*first.files, *second.files}):
        here, there = first.files.get(path), second.files.get(path)
        if here != there:
            yield _at_end(f"file {path}", here, there)


def _memories(first: Run, second: Run) -> Iterator[Difference]:
    here = sorted((each.text, each.source, each.found) for each in first.remembered)
    there = sorted((each.text, each.source, each.found) for each in second.remembered)
    if here != there:
        yield _at_end("memories", here, there)


def _spending(first: Run, second: Run, tolerance: Tolerance) -> Iterator[Difference]:
    here, there = _spent(first), _spent(second)
    for key in sorted({*here, *there}):
        if abs(here.get(key, 0) - there.get(key, 0)) > tolerance.spend:
            account, resource, window = key
            what = f"{resource} of {account}" + ("" if window == "total" else f" this {window}")
            yield _at_end(what, here.get(key, 0), there.get(key, 0))


def _spent(run: Run) -> dict[tuple[str, str, str], int]:
    return {(each.account, each.resource, each.window): each.spent for each in run.balances}


def _history(first: Run, second: Run, tolerance: Tolerance) -> Iterator[Difference]:
    """Yield the first row that differs; what follows it differs because of it."""
    here = [_essence(row, tolerance) for row in first.rows]
    there = [_essence(row, tolerance) for row in second.rows]
    for number, (one, other) in enumerate(zip_longest(here, there)):
        if one != other:
            yield _at_end(f"row {number} of the journal", one, other)
            return


def _essence(row: Row, tolerance: Tolerance) -> tuple[str, ...]:
    """Return what of a row must be the same; ids that the kernel made, hashes and times go."""
    detail = row.detail
    identity = row.operation if row.kind.startswith("op.") else ""
    said = [str(detail.get(key, "")) for key in ("decision", "status", "phase", "state", "name")]
    if tolerance.reasons:
        said.append(",".join(sorted(map(str, detail.get("reasons", ())))))
    return (row.kind, identity, *said)


def _at_end(what: str, here: Any, there: Any) -> Difference:
    return Difference(what=what, first=_shown(here), second=_shown(there))


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        value = " ".join(filter(None, map(str, value)))
    text = "nothing" if value is None else value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
