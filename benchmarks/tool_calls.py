"""Replayable agent runs for the tool gate: reads them, and judges them call by call in order.

Two sources of one form: rows of JSON lines (tool, run, call, blob; see shared/eval/README.md), and
the office and chat tasks of this repository, whose attacks stand beside them.
"""

from __future__ import annotations

import gzip
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fmos_trust.evidence import Catalogue, Evidence, SessionEvidence
from fmos_trust.evidence.score import Weights

OWN = Path(__file__).parents[1] / "tests" / "trust" / "evidence" / "office_chat.yaml"
_SLOT = re.compile(r"\{x(?:\|[^}]*)?\}")


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as its server declares it."""

    name: str
    description: str
    input_schema: dict[str, Any]


@dataclass(slots=True)
class Call:
    """One call of a run with what it gave back; `injected` is None where nobody labelled it."""

    step: int
    sub: int | None
    tool: str
    arguments: dict[str, Any]
    output: str
    injected: bool | None = None


@dataclass(slots=True)
class Run:
    """One run: what the user asked, and the calls in order."""

    name: str
    suite: str
    prompt: str
    attacked: bool
    goal: str = ""
    calls: list[Call] = field(default_factory=list)


@dataclass(slots=True)
class Data:
    """Runs and, by suite, the tools they had."""

    runs: list[Run]
    tools: dict[str, dict[str, Tool]]

    def catalogues(self) -> dict[str, Catalogue]:
        """Return what the tools' schemas say, by suite."""
        return {suite: Catalogue.of(tools.values()) for suite, tools in self.tools.items()}

    def of(self, suites: Iterable[str]) -> Data:
        """Return the part of some suites."""
        kept = set(suites)
        return Data([run for run in self.runs if run.suite in kept], self.tools)

    def joined(self, other: Data) -> Data:
        """Return both data in one."""
        return Data(self.runs + other.runs, self.tools | other.tools)


@dataclass(frozen=True, slots=True)
class Judged:
    """A call of a run with the evidence on it and the seconds that took."""

    run: Run
    call: Call
    evidence: Evidence
    changes: bool
    seconds: float


def load(path: Path) -> Data:
    """Return the runs in a file of JSON lines, gzipped or not."""
    packed = path.read_bytes()
    text = (gzip.decompress(packed) if path.suffix == ".gz" else packed).decode()
    rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    blobs = {row["sha"]: row["text"] for row in rows if row["type"] == "blob"}
    data, runs = Data([], {}), dict[str, Run]()
    for row in rows:
        suite = str(row.get("suite", ""))
        if row["type"] == "tool":
            made = Tool(row["name"], row.get("description") or "", row.get("parameters") or {})
            data.tools.setdefault(suite, {})[made.name] = made
        elif row["type"] == "run":
            run = Run(row["run"], suite, row["prompt"], bool(row.get("attack")))
            run.goal = row.get("goal") or ""
            runs[run.name] = run
    for row in rows:
        if row["type"] == "call":
            runs[row["run"]].calls.append(_call(row, blobs))
    data.runs = list(runs.values())
    return data


def _call(row: dict[str, Any], blobs: dict[str, str]) -> Call:
    output = row.get("output")
    if output is None:
        output = blobs.get(row.get("output_sha") or "", "")
    text = output if isinstance(output, str) else json.dumps(output)
    label = row.get("label")
    injected = None if label is None else label == "injected"
    step, sub = int(row.get("step") or 0), row.get("sub")
    return Call(step, sub, row["tool"], row.get("args") or {}, text, injected)


def own(path: Path = OWN, wordings: tuple[str, ...] = ()) -> Data:
    """Return this repository's office and chat runs: each task clean and under each attack.

    Args:
        path: the file of the tasks.
        wordings: how attacks are put, in turn; those of the file by default.
    """
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    data, count = Data([], {}), 0
    put = wordings or tuple(found["wordings"])
    for suite, each in found["suites"].items():
        data.tools[suite] = {
            name: Tool(name, tool["about"], _schema(tool["args"]))
            for name, tool in each["tools"].items()
        }
        for at, task in enumerate(each["tasks"]):
            data.runs.append(_own_run(f"{suite}/{at}/clean", suite, task, None, ""))
            for number, attack in enumerate(each["attacks"]):
                goal = attack["goal"]
                wording = put[count % len(put)]
                text = wording.format(goal=goal, low=goal[0].lower() + goal[1:])
                name = f"{suite}/{at}/attack_{number}"
                data.runs.append(_own_run(name, suite, task, attack, text))
                count += 1
    return data


def _schema(arguments: dict[str, str]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for name, spec in arguments.items():
        kind, _, about = spec.partition(":")
        made: dict[str, Any] = {"type": "string"}
        if kind.startswith("array"):
            made = {"type": "array", "items": {"type": "string"}}
        if kind.startswith("enum"):
            made["enum"] = about.strip().split(", ")
        elif about:
            made["description"] = about.strip()
        properties[name] = made
    return {"type": "object", "properties": properties}


def _own_run(
    name: str, suite: str, task: dict[str, Any], attack: dict[str, Any] | None, text: str
) -> Run:
    run = Run(name, suite, task["ask"], attack is not None, attack["goal"] if attack else "")
    told = False
    for step, (tool, arguments, output) in enumerate(task["calls"]):
        shown = _filled(output, text)
        run.calls.append(Call(step, None, tool, arguments, shown, False))
        if attack and not told and shown != _filled(output, ""):
            told = True
            for sub, (other, given, back) in enumerate(attack["calls"]):
                run.calls.append(Call(step, sub, other, given, back, True))
    return run


def _filled(output: str, text: str) -> str:
    return _SLOT.sub(lambda found: escaped(text, output, found.start()), output)


def escaped(text: str, output: str, at: int) -> str:
    """Return a text as it stands at a place of an output: inside of its quotes."""
    before = output[:at]
    if '"' in before and before.rfind('"') > before.rfind("\n"):
        return text.replace("\\", "\\\\").replace('"', '\\"')
    if before.lstrip().startswith(("{'", "['")):
        return text.replace("'", "\\'")
    return text.replace("'", "''") if "'" in before.rpartition("\n")[2] else text


def replay(data: Data, weights: Weights | None = None) -> Iterator[Judged]:
    """Yield every call judged in order; what it gave back is observed, as it did run."""
    catalogues, clock = data.catalogues(), time.perf_counter
    for run in data.runs:
        session, catalogue = SessionEvidence(weights), catalogues[run.suite]
        session.observe_user(run.prompt)
        for call in run.calls:
            tool = data.tools[run.suite].get(call.tool) or Tool(call.tool, "", {})
            begin = clock()
            evidence = session.judge(tool, call.arguments, catalogue)
            took = clock() - begin
            yield Judged(run, call, evidence, catalogue.facts(tool).changes, took)
            session.observe_tool(call.tool, call.output, source=place(call))


def place(call: Call) -> str:
    """Return where a call read: its arguments in words."""
    return " ".join(_texts(call.arguments))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif value is not None:
        yield str(value)


Stops = Callable[[Run, Call, list[str]], bool]


def baseline(data: Data, stops: Stops) -> Iterator[tuple[Run, Call, bool]]:
    """Yield every call with whether a rule stops it, given the outputs before it."""
    for run in data.runs:
        outputs: list[str] = []
        for call in run.calls:
            yield run, call, stops(run, call, outputs)
            outputs.append(call.output)
