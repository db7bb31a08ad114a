"""Claim: the gate finds a call's mistakes before its tool does, and leaves right calls alone.

Target: >= 95 % of seeded errors caught, <= 1 % of right calls touched. Errors are seeded into calls
that honest runs made: each kind at every call where it can be made; only a denial counts as caught,
and any denial of an unchanged call as touched.

Beside it the tools' JSON schemas alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema_rs

sys.path.insert(0, str(Path(__file__).parent))

from fmos.entered.log import Entry
from fmos.runtime.kernel import Kernel
from fmos.traps.manifest import ToolDescriptor
from fmos.types import (
    Operation,
    OperationKind,
    Outcome,
    OutcomeStatus,
    Principal,
    new_id,
)
from fmos_trust.evidence.catalogue import Catalogue
from fmos_trust.facts import Facts
from fmos_trust.findings import Finding
from fmos_trust.keyed import KeyedHash
from fmos_trust.lookahead.ids import is_id
from fmos_trust.lookahead.judge import LookAhead
from fmos_trust.pins.descriptors import descriptor_of
from fmos_trust.provenance.sessions import Seen
from fmos_trust.provenance.view import SessionView
from tool_calls import Call, Data, Run, Tool, load, own

FILE = "tool_calls_dev.jsonl.gz"
SEED = 20_261_122
#: Of an error message, what a tool says that is no time-out.
FAILURE = "ValueError: no such entry"

Arguments = dict[str, Any]


@dataclass(slots=True)
class Kind:
    """What became of one kind of seeded error."""

    seeded: int = 0
    caught: int = 0
    by_schema: int = 0


@dataclass(slots=True)
class Counts:
    """What the look-ahead did."""

    right_calls: int = 0
    touched: int = 0
    noted: int = 0
    failing_calls: int = 0
    failing_caught: int = 0
    kinds: dict[str, Kind] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)

    @property
    def seeded(self) -> int:
        """How many errors were seeded."""
        return sum(each.seeded for each in self.kinds.values())

    @property
    def caught(self) -> int:
        """How many of them were denied."""
        return sum(each.caught for each in self.kinds.values())


class Session:
    """One run, as the gate's look-ahead sees it."""

    def __init__(
        self, kernel: Kernel, ahead: LookAhead, run: Run, tools: dict[str, ToolDescriptor]
    ) -> None:
        self.who = Principal(agent="bench", session=new_id())
        self.tools = tools
        self.ahead = ahead
        self.seen = Seen()
        self.catalogue = Catalogue.of(tools.values())
        self._keyed = KeyedHash(kernel.keys_of("default"))
        self._home = str(kernel.home.path)
        self.view = SessionView(lambda: self.seen, lambda: self.catalogue, self._keyed)
        self.seen.take(Entry("user", run.prompt), own=True)

    def judge(self, tool: str, arguments: Arguments, *, dry: bool = True) -> list[Finding]:
        """Return what is found in a call."""
        operation = Operation(
            kind=OperationKind.TOOL_CALL, name=tool, arguments=arguments, principal=self.who
        )
        self.last = operation
        facts = Facts(
            operation=operation, contract=None, policy="", descriptor=self.tools.get(tool),
            secrets=(), keyed=self._keyed, home=self._home, tools=self.tools, seen=self.view,
            dry=dry,
        )  # fmt: skip
        return list(self.ahead.judge(facts))

    def ended(self, error: str = "") -> None:
        """Say how the last call ended."""
        status = OutcomeStatus.FAILED if error else OutcomeStatus.OK
        self.ahead.ended(self.who, Outcome(operation=self.last.id, status=status, error=error))

    def saw(self, call: Call) -> None:
        """Take what a call gave back."""
        place = json.dumps(call.arguments, ensure_ascii=False)
        self.seen.take(Entry("tool", call.output, source=call.tool, place=place), own=True)


def count(data: Data, kernel: Kernel) -> Counts:
    """Return what the look-ahead does to the honest calls of some runs, as they are and seeded."""
    counts, chance, ahead = Counts(), random.Random(SEED), LookAhead(kernel)
    suites = {suite: _described(tools.values()) for suite, tools in data.tools.items()}
    for run in data.runs:
        tools = suites[run.suite]
        session = Session(kernel, ahead, run, tools)
        for call in run.calls:
            if not call.injected and call.tool in tools:
                _one(counts, session, call, chance)
            session.saw(call)
    return counts


def _described(tools: Iterable[Tool]) -> dict[str, ToolDescriptor]:
    """Return by name the descriptors of tools as a server would list them."""
    listed = (
        {"name": tool.name, "description": tool.description, "inputSchema": tool.input_schema}
        for tool in tools
    )
    return {made.name: made for made in map(descriptor_of, listed)}


def _one(counts: Counts, session: Session, call: Call, chance: random.Random) -> None:
    begin = time.perf_counter()
    found = session.judge(call.tool, call.arguments)
    counts.seconds.append(time.perf_counter() - begin)
    if _failed(call):
        counts.failing_calls += 1
        counts.failing_caught += _denied(found)
        return
    counts.right_calls += 1
    counts.noted += any(each.effect == "note" for each in found)
    if _denied(found):
        counts.touched += 1
        counts.examples += [each.reason.message for each in found if each.effect == "deny"]
        return
    for kind, seed in SEEDS.items():
        for tool, arguments in seed(session, call, chance):
            _count(counts, kind, session, tool, arguments)
    _repeat(counts, session, call)


def _count(counts: Counts, kind: str, session: Session, tool: str, arguments: Arguments) -> None:
    mine = counts.kinds.setdefault(kind, Kind())
    caught = _denied(session.judge(tool, arguments))
    mine.seeded += 1
    mine.caught += caught
    if not caught:
        counts.examples.append(f"missed, {kind}: {tool} {json.dumps(arguments)[:200]}")
    schema = session.tools[tool].input_schema if tool in session.tools else None
    mine.by_schema += schema is not None and not jsonschema_rs.is_valid(schema, arguments)


def _repeat(counts: Counts, session: Session, call: Call) -> None:
    """Let a call fail and repeat it at once; what is forgotten by then was not caught."""
    mine = counts.kinds.setdefault("repeated", Kind())
    session.judge(call.tool, call.arguments, dry=False)
    session.ended(FAILURE)
    mine.seeded += 1
    mine.caught += _denied(session.judge(call.tool, call.arguments))
    session.judge(call.tool, call.arguments, dry=False)
    session.ended()


def _denied(found: list[Finding]) -> bool:
    return any(each.effect == "deny" for each in found)


def _failed(call: Call) -> bool:
    """Return whether a call of the data failed itself."""
    return bool(re.match(r"\s*(?:\w*Error\b|error:|ValidationError)", call.output, re.IGNORECASE))


# --- the errors

Seeded = Iterator[tuple[str, Arguments]]


def _tool_name(session: Session, call: Call, chance: random.Random) -> Seeded:
    name = call.tool
    at = chance.randrange(1, len(name) - 1)
    for wrong in (
        name[:at] + name[at + 1 :],
        name[:at] + name[at + 1] + name[at] + name[at + 2 :],
        "".join(part.title() for part in name.split("_")),
    ):
        if wrong not in session.tools:
            yield wrong, call.arguments


def _missing(session: Session, call: Call, _: random.Random) -> Seeded:
    for name in _schema(session, call).get("required", ()):
        if name in call.arguments:
            yield call.tool, {key: v for key, v in call.arguments.items() if key != name}


def _extra(session: Session, call: Call, chance: random.Random) -> Seeded:
    name = chance.choice(["verbose", "format", "page_size", "dry_run"])
    if name not in _schema(session, call).get("properties", {}):
        yield call.tool, {**call.arguments, name: True}


def _misnamed(session: Session, call: Call, chance: random.Random) -> Seeded:
    properties = _schema(session, call).get("properties", {})
    for name, value in call.arguments.items():
        at = chance.randrange(len(name))
        wrong = name[:at] + name[at + 1 :] if len(name) > 3 else f"{name}s"
        if wrong not in properties:
            rest = {key: each for key, each in call.arguments.items() if key != name}
            yield call.tool, {**rest, wrong: value}


def _wrong_type(session: Session, call: Call, _: random.Random) -> Seeded:
    schema = _schema(session, call)
    for name, value in call.arguments.items():
        wrong: Any = {"value": str(value)} if isinstance(value, str | int | float) else str(value)
        changed = {**call.arguments, name: wrong}
        if value is not None and not jsonschema_rs.is_valid(schema, changed):
            yield call.tool, changed


def _text_for_number(session: Session, call: Call, _: random.Random) -> Seeded:
    schema = _schema(session, call)
    for name, value in call.arguments.items():
        changed = {**call.arguments, name: str(value)}
        if isinstance(value, int | float) and not jsonschema_rs.is_valid(schema, changed):
            yield call.tool, changed


def _not_listed(session: Session, call: Call, _: random.Random) -> Seeded:
    for name, schema in _schema(session, call).get("properties", {}).items():
        if "enum" in schema and isinstance(call.arguments.get(name), str):
            yield call.tool, {**call.arguments, name: f"{call.arguments[name]}ish"}


def _unseen_id(session: Session, call: Call, chance: random.Random) -> Seeded:
    """Yield calls with an id of the same form that stands nowhere in what the run has seen."""
    if not session.seen.kinds:
        return
    for name, value in call.arguments.items():
        if not is_id(name) or session.catalogue.tools[call.tool].creates:
            continue
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, str | int) and any(map(str.isdigit, str(first))):
            text = re.sub(r"\d", lambda _: str(chance.randrange(10)), str(first)) + "7319"
            wrong = int(text) if isinstance(first, int) else text
            yield call.tool, {**call.arguments, name: [wrong] if first is not value else wrong}


SEEDS: dict[str, Callable[[Session, Call, random.Random], Seeded]] = {
    "unknown tool": _tool_name,
    "missing argument": _missing,
    "extra argument": _extra,
    "misnamed argument": _misnamed,
    "wrong type": _wrong_type,
    "text for a number": _text_for_number,
    "not in the list": _not_listed,
    "id never seen": _unseen_id,
}


def _schema(session: Session, call: Call) -> dict[str, Any]:
    return session.tools[call.tool].input_schema or {}


# --- what is said of it


def figures(counts: Counts) -> dict[str, object]:
    """Return the counts with the shares that count."""
    return {
        "right_calls": counts.right_calls,
        "right_calls_touched": counts.touched,
        "right_calls_noted": counts.noted,
        "harm": round(counts.touched / max(counts.right_calls, 1), 4),
        "seeded": counts.seeded,
        "caught": counts.caught,
        "helpfulness": round(counts.caught / max(counts.seeded, 1), 4),
        "failing_calls": counts.failing_calls,
        "failing_calls_caught": counts.failing_caught,
        "decision_us_p50": round(_p50(counts) * 1e6, 1),
        "kinds": {
            name: {"seeded": each.seeded, "caught": each.caught, "by_schema": each.by_schema}
            for name, each in counts.kinds.items()
        },
    }


def _p50(counts: Counts) -> float:
    return sorted(counts.seconds)[len(counts.seconds) // 2] if counts.seconds else 0.0


def publish(counts: Counts, *, whole: bool) -> None:
    """Write results/look_ahead.json."""
    from harness import Measure, Report, Side  # noqa: PLC0415 - it reads the command line

    report = Report("look_ahead", "errors seeded into calls that honest runs made, found before")
    said = figures(counts)
    report.at_least("seeded errors caught", 100 * float(str(said["helpfulness"])), "%", 95)
    report.at_most("right calls touched", 100 * float(str(said["harm"])), "%", 1)
    for name, each in counts.kinds.items():
        report.tell(f"{name}: caught", 100 * each.caught / each.seeded, "%")
    schema = sum(each.by_schema for each in counts.kinds.values())
    report.tell("schemas alone: caught", 100 * schema / max(counts.seeded, 1), "%")
    report.tell("a decision, p50", _p50(counts) * 1e6, "us")
    step = max(1, len(counts.seconds) // 50)
    sides = [Side("ours", "nothing is written", lambda _: 0.0)]
    report.add("decision", Measure({"ours": counts.seconds[::step]}), sides)
    of = "AgentDojo (banking, travel) and this repository" if whole else "this repository"
    report.notes += [f"{counts.seeded:,} errors in {counts.right_calls:,} right calls of {of}."]
    ours = f"{100 * float(str(said['helpfulness'])):.1f} % / {100 * float(str(said['harm'])):.1f} %"
    beside = f"schemas alone {100 * schema / max(counts.seeded, 1):.1f} %"
    report.sum_up("seeded errors caught / right calls touched", ours, beside)
    report.save()


def main() -> int:
    """Do what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    folder = os.environ.get("FMOS_EVAL_DATA", "")
    parser.add_argument("--data", type=Path, default=Path(folder) / FILE if folder else None)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--examples", action="store_true", help="print what went wrong")
    parser.add_argument("--quick", action="store_true", help="this repository's own runs only")
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    path: Path | None = None if options.quick else options.data
    if path is None and not options.quick:
        print("no data but this repository's own: say where with --data FILE", file=sys.stderr)
    if path is not None and not path.exists():
        print(f"no data: {path} does not exist", file=sys.stderr)
        return 2
    data = own().joined(load(path)) if path else own()
    with tempfile.TemporaryDirectory(prefix="fmos-ahead-") as home, Kernel.open(home) as kernel:
        counts = count(data, kernel)
    if options.examples:
        print("\n".join(counts.examples), file=sys.stderr)
    if options.json:
        print(json.dumps(figures(counts), indent=1))
        return 0
    sys.argv = [sys.argv[0], *(["--quick"] if options.quick else [])]
    sys.argv += ["--results", str(options.results)] if options.results else []
    publish(counts, whole=path is not None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
