"""Replays labelled tool calls as sessions, so that learned traps can be trained and measured.

The file is JSON lines, plain or gzip. Rows by `type`: `run` (run, prompt), `call` (run, tool, args,
label, output or output_sha) and `blob` (sha, text); rows of other types are passed over. A call
with the label `injected` should trap. The calls of a run follow each other in the file's order, the
harmless ones after an injected one too: the session goes on when the gate has refused it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fmos.errors import FormatError
from fmos.traps.features import vector
from fmos.traps.trajectory import Trajectory
from fmos.types import Operation, OperationKind

INJECTED = "injected"
_STEP_NS = 1_000_000_000
_GZIP = b"\x1f\x8b"

Decide = Callable[[tuple[float, ...]], bool]


@dataclass(frozen=True, slots=True)
class Call:
    """One labelled call of a tool and what it returned."""

    operation: Operation
    output: str
    positive: bool


@dataclass(slots=True)
class Run:
    """One session: what the user said, and its calls in their order."""

    name: str
    group: str
    prompt: str
    calls: list[Call] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Seen:
    """One call as it was judged: its features then, its label, and whether it trapped."""

    run: str
    values: tuple[float, ...]
    positive: bool
    trapped: bool


def read_runs(path: Path, split_by: str = "run") -> list[Run]:
    """Return the runs of a file; `split_by` names the field of run rows that groups them.

    Raises:
        FormatError: naming the line and what is wrong with it.
    """
    rows = list(_rows(path))
    blobs = {row["sha"]: row["text"] for _, row in rows if row["type"] == "blob"}
    runs: dict[str, Run] = {}
    for line, row in rows:
        try:
            if row["type"] == "run":
                group = ":".join(str(row[name]) for name in split_by.split(","))
                runs[row["run"]] = Run(row["run"], group, str(row["prompt"]))
            elif row["type"] == "call":
                runs[row["run"]].calls.append(_call(row, blobs))
        except (KeyError, TypeError, ValueError) as error:
            raise _bad(path, line, f"{type(error).__name__}: {error}") from error
    if not runs:
        raise _bad(path, 0, "it has no row of the type 'run'")
    return list(runs.values())


def split(runs: Sequence[Run], held_out: float) -> tuple[list[Run], list[Run]]:
    """Return the runs to learn from and those held out; a group is never on both sides."""
    learn: list[Run] = []
    rest: list[Run] = []
    for run in runs:
        drawn = int.from_bytes(hashlib.sha256(run.group.encode()).digest()[:8], "big") / 2**64
        (rest if drawn < held_out else learn).append(run)
    return learn, rest


def replay(runs: Sequence[Run], decide: Decide | None = None) -> list[Seen]:
    """Return every call as a session would judge it, one after the other.

    The features of earlier traps come from `decide` itself, as in a live session; without it from
    the labels, as a perfect judge would have trapped.
    """
    return [seen for run in runs for seen in _replay(run, decide)]


def _replay(run: Run, decide: Decide | None) -> Iterator[Seen]:
    past = Trajectory(reads_texts=True)
    past.note_text(run.prompt, of_user=True)
    for step, call in enumerate(run.calls):
        operation = call.operation
        past.observe(operation.name, operation.arguments, step * _STEP_NS)
        values = vector(operation, past)
        trapped = call.positive if decide is None else decide(values)
        past.judged(trapped=trapped)
        past.note_text(call.output, of_user=False)
        yield Seen(run.name, values, call.positive, trapped)


def _call(row: Mapping[str, Any], blobs: Mapping[str, str]) -> Call:
    output = row.get("output")
    if output is None and row.get("output_sha") is not None:
        output = blobs[row["output_sha"]]
    operation = Operation(
        id=hashlib.sha256(repr(sorted(row.items(), key=str)).encode()).hexdigest()[:32],
        kind=OperationKind.TOOL_CALL,
        name=row["tool"],
        arguments=row["args"],
    )
    text = output if isinstance(output, str) else json.dumps(output)
    return Call(operation, text, row["label"] == INJECTED)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open("rb") as probe:
            packed = probe.read(2) == _GZIP
        opener: Any = gzip.open if packed else open
        with opener(path, "rt", encoding="utf-8") as file:
            for line, text in enumerate(file, 1):
                if text.strip():
                    yield line, _row(path, line, text)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise _bad(path, 0, str(error)) from error


def _row(path: Path, line: int, text: str) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except ValueError as error:
        raise _bad(path, line, f"it is not JSON ({error})") from error
    if not isinstance(row, dict) or not isinstance(row.get("type"), str):
        raise _bad(path, line, "it is not an object with a `type`")
    return row


def _bad(path: Path, line: int, why: str) -> FormatError:
    where = f", line {line}" if line else ""
    return FormatError(
        f"{str(path)!r}{where} cannot be replayed: {why}",
        hint="docs/spec/trap-abi.md describes the rows under *Learned traps*",
    )
