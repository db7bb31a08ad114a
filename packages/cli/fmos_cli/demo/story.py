"""The run itself: one agent, its sessions, a fork of it, and what is shown on the way."""

from __future__ import annotations

import re
import statistics
import time
from dataclasses import dataclass, field
from importlib.resources import files as resources
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from fmos.audit.record import verify
from fmos.client import Client, connect
from fmos.effects import Sandbox
from fmos.ledger.accounts import account_of
from fmos.runtime.kernel import Kernel
from fmos.types import Decision, Principal
from fmos_cli.demo import setup
from fmos_cli.demo.operator import Operator
from fmos_cli.demo.project import Source, bring_in
from fmos_cli.demo.scripted import ScriptedModel
from fmos_cli.demo.timeline import Timeline
from fmos_cli.demo.tools import DESCRIPTORS, PROJECT, Desk, make_tools, tools_on_fork
from fmos_langgraph import FmosMiddleware, FmosSaver

TENANT = "demo"
BIG_BYTES = 100_000
_PAGED = re.compile(r"\[paged out: (\d+) bytes, \d+ lines, handle ([\w-]+)\]")
_FORKS = 7
_RECURSION = 80


@dataclass(slots=True)
class Shown:
    """What this run has really shown; each field is one of the demo's promises."""

    put: bool = False
    paged_out: bool = False
    paged_in: bool = False
    secret_kept: bool = False
    scope_kept: bool = False
    effect_approved: bool = False
    budget_refused: bool = False
    memory_recalled: bool = False
    agent_forked: bool = False
    agent_restored: bool = False
    audit_ok: bool = False


@dataclass(slots=True)
class Story:
    """One run over an opened home."""

    kernel: Kernel
    timeline: Timeline
    model: BaseChatModel | None
    interactive: bool
    shown: Shown = field(default_factory=Shown)
    tokens_raw: int = 0
    tokens_sent: int = 0
    largest_output: int = 0
    fork_ms: float = 0.0
    agent: Principal = field(default_factory=Principal)
    sandbox: Sandbox = field(default_factory=Sandbox)

    def run(self, source: Source) -> None:
        """Tell the whole story."""
        agent = self._engage()
        self.timeline.header()
        planted = self._put(agent, source)
        self._survey(agent, planted)
        self._recall(agent)
        self._empty_account(agent)
        self._fork(agent)
        self._audit()

    def spent(self) -> int:
        """Return the tokens that the agent and its forks have spent."""
        tenant = account_of(TENANT)
        rows = self.kernel.ledger.status(tenant)
        return sum(r.spent for r in rows if r.account == tenant and r.resource == "tokens")

    def volume(self) -> str:
        """Return the path of the volume."""
        return str(self.kernel.home.volume(TENANT))

    def _engage(self) -> Principal:
        """Choose an agent id that is free in this home and save its contract."""
        taken = {branch.name for branch in self.kernel.volume(TENANT).branches()}
        agent, number = _demo_agent("governed-agent"), 1
        while agent.branch_name in taken:
            number += 1
            agent = _demo_agent(f"governed-agent-{number}")
        text = (resources("fmos_cli.demo") / "contract.yaml").read_text(encoding="utf-8")
        self.agent = agent
        self.kernel.contracts.save(text.replace("name: governed-agent", f"name: {agent.agent}", 1))
        return agent

    def _put(self, agent: Principal, source: Source) -> setup.Planted:
        self.timeline.section(f"1. A copy of {source.label} goes into the volume")
        start = time.perf_counter()
        files = self.kernel.agent_files(agent)
        brought = bring_in(files, source, PROJECT, self.timeline.progress)
        size = f"{brought.files} files, {brought.size_bytes / 1e6:.1f} MB at {PROJECT}"
        self.timeline.event("volume.put", f"{size}; the host is only read", _since(start))
        if brought.left_out:
            self.timeline.event("volume.put", f"left out: {brought.describe_left_out()}")
        planted = setup.plant(files, PROJECT)
        names = f"{planted.notes}, {planted.secret}, {planted.scratch}/"
        self.timeline.event("demo.plant", f"a trap for the agent, in the copy only: {names}")
        self.shown.put = True
        return planted

    def _survey(self, agent: Principal, planted: setup.Planted) -> None:
        self.timeline.section("2. Session 'survey': the agent works, and falls for what it reads")
        before = len(self.timeline.steps)
        merged = self._session(agent, "survey", setup.survey_task(planted))
        denied = [s for s in self.timeline.steps[before:] if s.verdict is Decision.DENY]
        self.shown.secret_kept = any("send_message" in s.operation for s in denied)
        self.shown.scope_kept = any("write_file" in s.operation for s in denied)
        self.shown.effect_approved = merged > 0

    def _recall(self, agent: Principal) -> None:
        self.timeline.section("3. Session 'recall': a new session remembers the one before")
        self._session(agent, "recall", setup.RECALL_TASK)
        client = self._connect(agent, "recall")
        hits = client.call("memory_search", {"query": "project survey"})["hits"]
        self.shown.memory_recalled = bool(hits)
        self.timeline.event("memory.recalled", hits[0]["text"] if hits else "nothing")

    def _empty_account(self, agent: Principal) -> None:
        self.timeline.section("4. Session 'tight': its account is empty, so no model is called")
        who = agent.model_copy(update={"session": "tight"})
        account = self.kernel.account(who)
        self._session(agent, "tight", setup.TIGHT_TASK)
        rows = self.kernel.ledger.status(account)
        spent = sum(r.spent for r in rows if r.account == account and r.resource == "tokens")
        self.kernel.ledger.set_limit(account, "tokens", spent)
        self.timeline.event("ledger.limit", f"a person limits the session to {spent} tokens, spent")
        before = len(self.timeline.steps)
        self._session(agent, "tight", setup.TIGHT_TASK)
        denied = [s for s in self.timeline.steps[before:] if s.verdict is Decision.DENY]
        self.shown.budget_refused = any("model.generate" in s.operation for s in denied)

    def _fork(self, agent: Principal) -> None:
        self.timeline.section("5. The whole agent is forked, goes its own way and comes back")
        twin = self._timed_forks(agent)
        volume = self.kernel.volume(TENANT)
        handle = self.kernel.agent_fs(twin)
        snapshot = f"{twin.agent}-before"
        handle.snapshot(snapshot, message="before the experiment")
        self._session(twin, "experiment", setup.EXPERIMENT_TASK)
        changes = [c.path for c in volume.diff(agent.branch_name, twin.branch_name)]
        memories = [path for path in changes if path.startswith("/.fmos/memory/")]
        files = [path for path in changes if not path.startswith("/.fmos/")]
        kept = len(changes) - len(memories) - len(files)
        counted = f"{len(files)} files, {len(memories)} memory paths, {kept} of context and threads"
        self.timeline.event("agent.diff", f"{agent.agent} and {twin.agent} differ in {counted}")
        known = self._remembers(agent, twin)
        self.shown.agent_forked = bool(files and memories) and known == (False, True)
        start = time.perf_counter()
        handle.restore(snapshot)
        self.timeline.event("agent.restore", f"{twin.agent} to {snapshot}", _since(start))
        left = sum(1 for _ in volume.diff(agent.branch_name, twin.branch_name))
        known = self._remembers(agent, twin)
        self.shown.agent_restored = left == 0 and known == (False, False)
        said = "equal again, memory as well" if self.shown.agent_restored else "NOT equal"
        self.timeline.event("agent.diff", f"{left} paths differ: {said}")

    def _timed_forks(self, agent: Principal) -> Principal:
        forks, times = [], []
        for number in range(_FORKS):
            start = time.perf_counter()
            forks.append(self.kernel.fork_agent(agent, f"{agent.agent}-twin-{number + 1}"))
            times.append(_since(start))
        self.fork_ms = round(statistics.median(times), 3)
        for spare in forks[1:]:
            self.kernel.drop_agent(spare)
        what = f"files, memory, context and threads to {forks[0].agent}; median of {_FORKS}"
        self.timeline.event("agent.fork", what, self.fork_ms)
        return forks[0]

    def _remembers(self, *agents: Principal) -> tuple[bool, ...]:
        """Return for each agent whether the experiment is in its memory."""
        known = []
        for agent in agents:
            client = self._connect(agent, "")
            hits = client.call("memory_search", {"query": "experiment", "agent": agent.agent})
            known.append(any("experiment" in hit["tags"] for hit in hits["hits"]))
        said = ", ".join(f"{a.agent}: {'yes' if k else 'no'}" for a, k in zip(agents, known))  # noqa: B905
        self.timeline.event("memory.search", f"the experiment is remembered by {said}")
        return tuple(known)

    def _audit(self) -> None:
        self.timeline.section("6. The journal's hash chain is checked")
        start = time.perf_counter()
        found = verify(self.kernel, TENANT)
        self.shown.audit_ok = found["ok"]
        said = "unbroken" if found["ok"] else f"broken at row {found['first_bad']}"
        detail = f"{found['rows']} rows, {said}, head {found['head'][:16]}"
        self.timeline.event("audit.verify", detail, _since(start))

    def _session(self, agent: Principal, session: str, task: str) -> int:
        """Run the agent on one task and return how many effects were merged."""
        who = agent.model_copy(update={"session": session})
        client = self._connect(agent, session)
        files = self.kernel.agent_files(agent)
        desk = Desk(files, client, who, self.sandbox)
        operator = Operator(
            self.kernel, files, self.timeline,
            interactive=self.interactive, where=self.sandbox.kind,
        )  # fmt: skip
        middleware = FmosMiddleware(
            client, DESCRIPTORS, on_step=self.timeline.step, on_ask=operator.answer,
            files=files, on_fork=lambda fork: tools_on_fork(desk, fork),
        )  # fmt: skip
        graph = create_agent(
            self.model or ScriptedModel(on_command=self.sandbox.vouch),
            make_tools(desk),
            system_prompt=setup.SYSTEM_PROMPT,
            middleware=[middleware],
            checkpointer=FmosSaver.from_fs(self.kernel.agent_fs(agent)),
        )
        config: Any = {"configurable": {"thread_id": session}, "recursion_limit": _RECURSION}
        asked: Any = {"messages": [("user", task)]}
        for update in graph.stream(asked, config, stream_mode="updates"):
            for node, delta in update.items():
                operator.tell_merged()
                self._notice(node, _messages(delta))
        self.tokens_raw += middleware.governor.tokens_raw
        self.tokens_sent += middleware.governor.tokens_sent
        return operator.merged

    def _connect(self, agent: Principal, session: str) -> Client:
        who = agent.model_copy(update={"session": session})
        return connect(who, transport="inprocess", kernel=self.kernel)

    def _notice(self, node: str, messages: list[BaseMessage]) -> None:
        for message in messages:
            if node == "tools" and isinstance(message, ToolMessage):
                self._notice_result(message)
            elif node == "model" and isinstance(message, AIMessage) and not message.tool_calls:
                self.timeline.event("agent.says", message.text)

    def _notice_result(self, message: ToolMessage) -> None:
        text = message.text
        paged = _PAGED.match(text)
        size = int(paged[1]) if paged else len(text.encode())
        self.largest_output = max(self.largest_output, size)
        if paged:
            sent = f"{size:,} bytes became a stub of {len(text.encode())} and handle {paged[2]}"
            self.timeline.event("context.paged_out", sent)
            self.shown.paged_out |= size > BIG_BYTES
        elif message.name == "context_read" and message.status != "error":
            self.timeline.event("context.paged_in", f"{len(text)} characters: {text}")
            self.shown.paged_in = True


def _messages(delta: object) -> list[BaseMessage]:
    """Return the messages of a node's update; a node may make several updates at once."""
    if isinstance(delta, list):
        return [message for part in delta for message in _messages(part)]
    found = delta.get("messages", []) if isinstance(delta, dict) else []
    return found if isinstance(found, list) else [found]


def _since(start: float) -> float:
    return round((time.perf_counter() - start) * 1000, 3)


def _demo_agent(name: str) -> Principal:
    return Principal(tenant=TENANT, application="demo", agent=name)
