"""Runs a recorded session again, beside the home, and says where it comes out otherwise.

The recorded calls are made again, one after the other, of the real services over a scratch kernel:
under the recorded time, with the recorded texts of models and tools. Verdicts, transformed
arguments, stubs, composed contexts, reservations and balances are worked out anew and compared.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from agentfs import AgentFS
from agentfs.errors import NotFound as StateNotFound
from fmos.config import Home
from fmos.errors import FmosError, FormatError, NotFoundError
from fmos.plugins import retrieval
from fmos.redaction import Redactor
from fmos.replay.reading import Found, entries, keys_of
from fmos.replay.recording import BEGAN, MANDATES, RULES, STATE, composed_summary
from fmos.replay.scratch import RecordedMandates, ReplayClock, ScratchHome, ScratchKernel
from fmos.replay.store import Entry
from fmos.serving.discovery import discover
from fmos.serving.toolset import Toolset
from fmos.types import Principal
from fmos.verify import metered

Policy = Literal["recorded", "current"]

#: Fields whose values a service makes up anew: what one was answered stands for the other.
_MADE_UP = frozenset({"approval", "reservation", "id"})

#: What depends on when and beside whom a session ran, and not on what it did.
_PASSED_OVER = frozenset({"alerts", "node"})

#: What names the policies, which are known to be others where they are the current ones.
_OF_POLICY = frozenset({"policy", "table", "table_version"})

_CONTEXT = "/.fmos/context"


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that came out otherwise; `call` counts the calls from 1."""

    call: int
    tool: str
    operation: str
    field: str
    recorded: Any
    again: Any


@dataclass(slots=True)
class Rerun:
    """What came of running a session again."""

    session: str
    agent: str
    policy: Policy
    calls: int = 0
    compared: int = 0
    recorded_policies: list[str] = field(default_factory=list)
    current_policy: str = ""
    differences: list[Difference] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether everything came out as it was recorded."""
        return not self.differences


def run_again(
    home: Home,
    volume: AgentFS,
    tenant: str,
    found: Found,
    *,
    policy: Policy = "recorded",
    redacted: bool = True,
) -> Rerun:
    """Run a recorded session again and return where it differs; nothing of the home changes.

    Raises:
        NotFoundError: if the session is not recorded, or the state it began from is gone.
        FormatError: if the recording cannot be opened with the home's keys.
    """
    kept = list(entries(volume, found, keys_of(home.keys, tenant)))
    began = _beginning(found, kept)
    with tempfile.TemporaryDirectory(prefix="fmos-replay-") as folder:
        scratch = ScratchHome(home.path, folder=Path(folder))
        run = _Run(scratch, found, began, policy)
        try:
            run.seed(volume, kept)
            for entry in kept:
                run.step(entry)
        finally:
            run.close()
    if redacted:
        _redact(run.rerun, kept)
    return run.rerun


def _beginning(found: Found, kept: Sequence[Entry]) -> Entry:
    if found.recorded is None or not kept:
        raise NotFoundError(
            f"the session {found.session!r} was not recorded, so it cannot be run again",
            hint="set `record = true` in [replay] of fmos.toml; `fmos replay` shows what is known",
        )
    for entry in kept:
        if entry.content is None:
            raise FormatError(
                f"the recording of session {found.session!r} does not open with the keys of this"
                " home, or was changed",
                hint="restore keys/ from the backup that the volume is of",
            )
    first = next((entry for entry in kept if entry.name == BEGAN), None)
    if first is None:
        raise FormatError(f"the recording of session {found.session!r} has no beginning")
    return first


class _Run:
    """One session on one scratch kernel."""

    def __init__(self, home: ScratchHome, found: Found, began: Entry, policy: Policy) -> None:
        value = _content(began)["value"]
        family = [Principal.model_validate(each) for each in value["family"]]
        self.rerun = Rerun(found.session, family[0].agent, policy)
        self._found = found
        self._began = began
        self._who = family[0]
        self._balances: list[dict[str, Any]] = value["balances"]
        self._clock = ReplayClock(began.time_ns)
        self._mandates = RecordedMandates() if policy == "recorded" else None
        self._kernel = ScratchKernel(home, self._clock, self._mandates)
        self._kernel.descend(family, value["under"])
        classes = discover().require().values()
        self._toolsets = [cls(self._kernel, self._who) for cls in classes]
        self._owner: dict[str, Toolset] = {
            spec.name: toolset for toolset in self._toolsets for spec, _ in toolset.tools()
        }
        # What is no server's tool, and is recorded all the same.
        self._runs = {
            metered.EVENT: metered.Verification(self._kernel).again,
            retrieval.EVENT: retrieval.Retrieval(self._kernel).again,
        }
        self._aliases: dict[str, str] = {}
        self._endowed = False
        self.rerun.current_policy = self._current_policy()

    def close(self) -> None:
        """Let go of the scratch files."""
        self._kernel.close()

    def seed(self, volume: AgentFS, kept: Sequence[Entry]) -> None:
        """Give the scratch volume the context that the session went on from, if it did."""
        first = next((each for each in kept if each.name.startswith("context_")), None)
        fresh = first is None or (
            first.name == "context_open" and not _content(first)["answer"]["items"]
        )
        if fresh:
            return
        try:
            past = volume.on(self._found.branch).at(int(self._began.seq or 0))
            _copy(past, self._kernel.agent_fs(self._who), f"{_CONTEXT}/{self._found.session}")
        except (StateNotFound, FileNotFoundError) as error:
            raise NotFoundError(
                f"the state that session {self._found.session!r} began from is not kept any more",
                hint="the volume's history_retention says for how long it is",
            ) from error

    def step(self, entry: Entry) -> None:
        """Bring about or call again what one entry says."""
        content = _content(entry)
        self._clock.move(entry.time_ns)
        if entry.name == BEGAN:
            return
        if entry.name == MANDATES:
            self._bind(content["value"])
        elif entry.name == STATE:
            self._kernel.set_state(self._who, content["value"], entry.time_ns)
        elif entry.name == RULES and self._mandates is None:
            return  # the rules are the current ones too
        elif "value" in content:
            self._happened(entry.name, content["value"])
        elif content.get("outside"):
            self._happened(entry.name, self._aliased(content["arguments"]))
        else:
            self._call(entry, content)

    def _bind(self, value: dict[str, Any]) -> None:
        for each in value.values():
            kept = each.get("manifest", {}).get("hash", "") if isinstance(each, dict) else ""
            if kept and kept not in self.rerun.recorded_policies:
                self.rerun.recorded_policies.append(kept)
        if self._mandates is not None:
            self._mandates.set(value)
        if not self._endowed and "error" not in value:
            self._endowed = True
            self._kernel.endow(self._kernel.standing(self._who), self._balances, self._clock)

    def _happened(self, event: str, value: Any) -> None:
        for toolset in self._toolsets:
            toolset.happened(self._who, event, value)

    def _call(self, entry: Entry, content: dict[str, Any]) -> None:
        self.rerun.calls += 1
        answer = self._answer(entry.name, self._aliased(content["arguments"]))
        recorded = content.get("answer")
        if recorded is None:
            if "error" in answer:
                self._differs(entry, "error", None, answer["error"])
            return
        self.rerun.compared += 1
        if entry.name == "context_compose" and "error" not in answer:
            answer = composed_summary(answer)
        if entry.name == "context_append" and "text" not in recorded:
            answer = {name: each for name, each in answer.items() if name != "text"}
        if entry.name == "budget_settle" and "error" not in answer:
            self._kernel.spent_by_others(self._kernel.account(self._who), recorded["balances"])
            answer = self._own_balances(answer)
            recorded = self._own_balances(recorded)
        for where, before, after in self._compare(recorded, answer, ""):
            self._differs(entry, where, before, after)

    def _answer(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        toolset = self._owner.get(tool)
        try:
            if tool in self._runs:
                return self._runs[tool](self._who, arguments)
            if toolset is None:
                return {"error": f"no server with the tool {tool!r} is installed"}
            return toolset.call(tool, arguments)
        except FmosError as error:
            return {"error": f"{error.code}: {error}"}

    def _differs(self, entry: Entry, where: str, before: Any, after: Any) -> None:
        found = Difference(self.rerun.calls, entry.name, entry.operation, where, before, after)
        self.rerun.differences.append(found)

    def _own_balances(self, answer: dict[str, Any]) -> dict[str, Any]:
        account = str(self._kernel.account(self._who))
        own = [each for each in answer["balances"] if each["account"] == account]
        return {**answer, "balances": own}

    def _compare(self, before: Any, after: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
        """Yield the place and both values of whatever differs, the made-up ids aside."""
        if isinstance(before, dict) and isinstance(after, dict):
            for name in sorted(before.keys() | after.keys()):
                yield from self._compare_field(name, before.get(name), after.get(name), where)
        elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
            for number, (one, other) in enumerate(zip(before, after, strict=True)):
                yield from self._compare(one, other, f"{where}[{number}]")
        elif before != after:
            yield where or "answer", before, after

    def _compare_field(
        self, name: str, before: Any, after: Any, where: str
    ) -> Iterator[tuple[str, Any, Any]]:
        if name in _PASSED_OVER or (self._mandates is None and name in _OF_POLICY):
            return
        place = f"{where}.{name}" if where else name
        if name in _MADE_UP and isinstance(before, str) and isinstance(after, str):
            if self._aliases.setdefault(before, after) != after:
                yield place, before, after
            return
        yield from self._compare(before, after, place)

    def _aliased(self, value: Any) -> Any:
        """Return what was given, with this run's ids in place of the recorded ones."""
        if isinstance(value, str):
            return self._aliases.get(value, value)
        if isinstance(value, dict):
            return {name: self._aliased(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self._aliased(each) for each in value]
        return value

    def _current_policy(self) -> str:
        try:
            manifest = self._kernel.today.of(self._who).mandate.manifest
        except FmosError:
            return ""
        return manifest.hash if manifest else ""


def _content(entry: Entry) -> dict[str, Any]:
    return entry.content or {}


def _copy(source: AgentFS, target: AgentFS, folder: str) -> None:
    if not source.exists(folder):
        return
    for place, _, files in source.walk(folder):
        target.mkdir(place, parents=True, exist_ok=True)
        for name in files:
            path = f"{place}/{name}"
            target.write(path, source.read(path))


def _redact(rerun: Rerun, kept: Sequence[Entry]) -> None:
    redactor = Redactor()
    for entry in kept:
        redactor.learn(_content(entry).get("arguments"))
    rerun.differences = [
        Difference(
            each.call,
            each.tool,
            each.operation,
            each.field,
            redactor.redacted(each.recorded),
            redactor.redacted(each.again),
        )
        for each in rerun.differences
    ]
