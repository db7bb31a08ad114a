"""The life of an agent: who may go where, and that a stopped agent does nothing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmos.client import connect
from fmos.client.governor import Governor
from fmos.errors import ArgumentError, DeniedError, NotFoundError
from fmos.runtime.kernel import Kernel
from fmos.runtime.lifecycle import Lifecycle
from fmos.runtime.states import AgentState, AgentStates, StateRow
from fmos.traps.manifest import ToolDescriptor
from fmos.types import Operation, OperationKind, Outcome, OutcomeStatus, Principal

WRITER = Principal(agent="writer", session="s1")
CONTRACT = """
apiVersion: agentos/v0.2
kind: AgentContract
name: writer
capabilities: ["fs.read", "fs.write"]
modelPolicy: { allow: ["*"] }
security: { paths: { read: ["/work/**"], write: ["/work/**"] } }
"""
READ = ToolDescriptor(name="read_file", capability="fs.read", effect="read", roles={"path": "path"})
EVENTS = ("agent.spawn", "agent.pause", "agent.resume", "agent.kill")


@pytest.fixture
def lives(kernel: Kernel) -> Lifecycle:
    """The lives of a home where the agent `writer` runs under a contract."""
    kernel.contracts.save(CONTRACT)
    made = Lifecycle(kernel)
    made.spawn(WRITER, person="user:ada")
    return made


def events(kernel: Kernel, tenant: str = "default") -> list[str]:
    """Return the changes of agents that the journal has."""
    return [row.operation for row in kernel.volume(tenant).journal() if row.operation in EVENTS]


def operation(path: str = "/work/a", kind: OperationKind = OperationKind.TOOL_CALL) -> Operation:
    """Return a read of a file."""
    return Operation(kind=kind, name="read_file", arguments={"path": path})


ALLOWED = {
    ("none", "spawn"): "running",
    ("running", "spawn"): "running",
    ("running", "pause"): "paused",
    ("running", "resume"): "running",
    ("running", "kill"): "killed",
    ("paused", "pause"): "paused",
    ("paused", "resume"): "running",
    ("paused", "kill"): "killed",
    ("killed", "kill"): "killed",
    ("killed", "spawn"): "running",
    ("paused", "spawn"): "paused",
}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(verbs=st.lists(st.sampled_from(["spawn", "pause", "resume", "kill"]), max_size=9))
def test_every_change_is_one_journal_row(
    tmp_path_factory: pytest.TempPathFactory, verbs: list[str]
) -> None:
    """Whatever a person says in whatever order, the state is the model's, and each change a row."""
    with Kernel.open(tmp_path_factory.mktemp("home")) as kernel:
        lives, state, rows = Lifecycle(kernel), "none", []
        for verb in verbs:
            wanted = ALLOWED.get((state, verb))
            if wanted is None:
                with pytest.raises((ArgumentError, NotFoundError)):
                    getattr(lives, verb)(WRITER)
                continue
            assert getattr(lives, verb)(WRITER).state == wanted
            if wanted != state:
                rows.append(f"agent.{verb}")
            state = wanted
        assert events(kernel) == rows
        assert kernel.volume("default").verify_journal().ok
        if state != "none":
            assert Lifecycle(kernel).show(WRITER).state == state


@pytest.mark.parametrize("stop", ["pause", "kill"])
def test_a_stopped_agent_does_nothing_and_can_be_read(
    kernel: Kernel, lives: Lifecycle, stop: str
) -> None:
    """Every privileged operation is denied with a sentence, and what only reads still answers."""
    client = connect(WRITER, kernel=kernel)
    written = client.call("memory_write", {"text": "the sky is blue"})
    client.call("context_open", {})
    client.call("context_append", {"role": "user", "text": "hello"})
    asked = {"operation": operation().model_dump(mode="json")}
    admitted = client.call(
        "budget_admit",
        {"operation": {"kind": "model.generate", "name": "m", "cost_estimate": {"tokens": 5}}},
    )
    assert admitted["decision"] == "allow"
    getattr(lives, stop)(WRITER, reason="why not")
    state = {"pause": "paused", "kill": "killed"}[stop]

    for tool, arguments in (
        ("trust_check", asked),
        ("budget_admit", {"operation": {"kind": "model.generate", "name": "m"}}),
    ):
        verdict = client.call(tool, arguments)
        assert verdict["decision"] == "deny"
        assert verdict["reasons"][0]["code"] == f"agent.{state}"
        assert "'writer'" in verdict["reasons"][0]["message"]
    writes: tuple[tuple[str, dict[str, Any]], ...] = (
        ("memory_write", {"text": "no"}),
        ("context_open", {}),
        ("context_append", {"role": "user", "text": "no"}),
        ("context_compose", {}),
    )
    for tool, arguments in writes:
        with pytest.raises(DeniedError, match=r"'writer' (is paused|was killed)"):
            client.call(tool, arguments)
    for amounts in ({"tokens": 1}, {"verifier_runs": 1}):
        with pytest.raises(DeniedError):
            kernel.reserve(WRITER, amounts, operation="x")

    assert client.call("memory_search", {"query": "sky"})["hits"][0]["id"] == written["id"]
    assert client.call("budget_status")["balances"]
    assert client.call("trust_pending") == {"approvals": []}
    assert lives.show(WRITER).reason == "why not"
    settled = client.call(
        "budget_settle", {"reservation": admitted["reservation"], "usage": {"total_tokens": 7}}
    )
    assert settled["committed"] == {"tokens": 7}, "what ran already still counts"


def test_the_trap_table_of_a_paused_agent_lets_nothing_pass(
    kernel: Kernel, lives: Lifecycle
) -> None:
    """A client hears of the other table at its next call, and is denied until the resume."""
    with connect(WRITER, kernel=kernel) as client:
        governor = Governor(client)
        running = governor.register_tools([READ])
        first = operation()
        assert governor.before_tool(first).reasons[0].code == "trap.innocuous"
        lives.pause(WRITER)
        assert client.call("trust_table")["version"] != running
        governor.flush()
        queued = operation("/work/b")
        assert governor.before_tool(queued).reasons[0].code == "trap.innocuous", "not heard yet"
        governor.before_tool(operation("/elsewhere"))  # traps anyway, and brings the news
        denied = governor.before_tool(operation())
        assert denied.decision == "deny"
        assert denied.reasons[0].code == "agent.paused"
        lives.resume(WRITER)
        assert client.call("trust_table")["version"] == running


def test_a_kill_gives_back_what_is_held_and_no_fork_pays_for_it(
    kernel: Kernel, lives: Lifecycle
) -> None:
    """The agent's reservations are free again, its fork's are not, and late usage still counts."""
    kid = lives.fork(WRITER, "kid")
    kid_session = Principal(agent=kid.agent, session="k1")
    held = kernel.reserve(WRITER, {"tokens": 400}, operation="o1")
    kernel.reserve(kid_session, {"tokens": 30}, operation="o2")
    lives.kill(WRITER)
    account = kernel.account(WRITER).nearest("agent")
    assert account is not None
    balance = next(b for b in kernel.ledger.status(account) if b.account == account)
    assert (balance.reserved, balance.spent) == (30, 0)
    kernel.reserve(kid_session, {"tokens": 1}, operation="o3")
    assert lives.show(Principal(agent="kid")).state == "running"
    kernel.ledger.commit(held.id, {"tokens": 390})
    after = next(b for b in kernel.ledger.status(account) if b.account == account)
    assert after.spent == 390


def test_a_killed_id_is_nobodys_until_a_person_spawns_it(kernel: Kernel, lives: Lifecycle) -> None:
    """No fork and no resume takes it; a spawn does, and keeps the old state as a checkpoint."""
    kernel.agent_fs(WRITER).write("/notes", b"old")
    lives.spawn(Principal(agent="boss"))
    lives.kill(WRITER)
    with pytest.raises(ArgumentError, match="killed"):
        lives.resume(WRITER)
    with pytest.raises(ArgumentError, match="taken"):
        lives.fork(Principal(agent="boss"), "writer")
    lives.spawn(WRITER)
    fs = kernel.agent_fs(WRITER)
    assert not fs.exists("/notes")
    [kept] = lives.checkpoints(WRITER)
    assert fs.at(kept.name).read("/notes") == b"old"
    kernel.reserve(WRITER, {"tokens": 1}, operation="o1")


def test_a_dropped_and_killed_fork_stays_killed(kernel: Kernel, lives: Lifecycle) -> None:
    """Deleting the branch of a killed agent does not free its id."""
    lives.fork(WRITER, "kid")
    kid = Principal(agent="kid")
    lives.kill(kid)
    kernel.drop_agent(kid)
    assert not lives.show(kid).has_branch
    with pytest.raises(DeniedError):
        kernel.reserve(kid, {"tokens": 1}, operation="o1")
    with pytest.raises(ArgumentError, match="taken"):
        kernel.fork_agent(WRITER, "kid")
    assert lives.spawn(kid).has_branch


def test_a_restore_takes_back_the_world_and_no_spending(kernel: Kernel, lives: Lifecycle) -> None:
    """Files, keys and memory are as at the checkpoint, and the tokens stay spent."""
    client = connect(WRITER, kernel=kernel)
    fs = kernel.agent_fs(WRITER)
    fs.write("/a", b"1")
    lives.checkpoint(WRITER, "one", message="first")
    fs.write("/a", b"2")
    client.call("memory_write", {"text": "later"})
    kernel.charge(WRITER, {"tokens": 50})
    done = lives.restore(WRITER, "one")
    assert fs.read("/a") == b"1"
    assert client.call("memory_search", {"query": "later"})["hits"] == []
    spent = {b.resource: b.spent for b in kernel.ledger.status(kernel.account(WRITER))}
    assert (spent["tokens"], spent["memory_writes"]) == (50, 1)
    lives.restore(WRITER, f"@{done.before}")
    assert fs.read("/a") == b"2"
    said = [
        r.operation for r in fs.journal() if r.operation in ("agent.checkpoint", "agent.restore")
    ]
    assert said == ["agent.checkpoint", "agent.restore", "agent.restore"]
    with pytest.raises(ArgumentError, match="already"):
        lives.checkpoint(WRITER, "one")
    with pytest.raises(NotFoundError, match="two"):
        lives.restore(WRITER, "two")
    with pytest.raises(NotFoundError):
        lives.restore(WRITER, "@99999")


def test_an_agent_made_from_anothers_state_stays_within_its_contract(
    kernel: Kernel, lives: Lifecycle
) -> None:
    """What was learned under a contract is not used outside it; the account is its own."""
    kernel.agent_fs(WRITER).write("/notes", b"secret")
    made = lives.checkpoint(WRITER, "one")
    kernel.contracts.save(
        CONTRACT.replace("name: writer", "name: other").replace('"fs.write"', '"web.fetch"')
    )
    other = Principal(agent="other")
    lives.spawn(other, made.name)
    assert kernel.agent_fs(other).read("/notes") == b"secret"
    contract = kernel.contract(other)
    assert contract is not None
    assert list(contract.capabilities) == ["fs.read"]
    assert kernel.account(other) == "org:default/tenant:default/app:-/agent:other/session:-"
    with pytest.raises(ArgumentError, match="taken"):
        lives.spawn(other)
    with pytest.raises(NotFoundError, match="nowhere"):
        lives.spawn(Principal(agent="third"), "nowhere")


def test_a_row_that_a_killed_process_owed_is_written_once(kernel: Kernel, lives: Lifecycle) -> None:
    """The next look writes the missing row, and one that is there is not written again."""
    states = AgentStates(kernel.database)
    row = StateRow(
        "default", "writer", AgentState.PAUSED, 1, "user:ada", "", "c1", "agent.pause", {}
    )
    states.put(row)
    assert kernel.agents.descent(WRITER).state is AgentState.PAUSED
    assert lives.settle_all() == 1
    states.put(row)  # as if the process had died after the journal's row
    assert lives.settle_all() == 1
    assert lives.settle_all() == 0
    assert events(kernel) == ["agent.spawn", "agent.pause"]
    lives.resume(WRITER)
    states.put(replace(row, change="c2"))
    lives.resume(WRITER)
    said = ["agent.spawn", "agent.pause", "agent.resume", "agent.pause", "agent.resume"]
    assert events(kernel) == said, "the next change comes after the row of the one before"


CHANGE = """
import sys
from fmos.runtime.kernel import Kernel
from fmos.runtime.lifecycle import Lifecycle
from fmos.types import Principal
with Kernel.open(sys.argv[1]) as kernel:
    for _ in range(20):
        for verb in ("pause", "resume"):
            getattr(Lifecycle(kernel), verb)(Principal(agent="writer"))
"""


def test_processes_that_change_one_agent_agree(
    tmp_path: Path, kernel: Kernel, lives: Lifecycle
) -> None:
    """Each change has one row, and rows and states alternate whoever made them."""
    command = [sys.executable, "-c", CHANGE, str(kernel.home.path)]
    running = [subprocess.Popen(command) for _ in range(2)]
    assert [each.wait(60) for each in running] == [0, 0]
    lives.settle_all()
    changes = [
        (row.operation, row.detail["change"])
        for row in kernel.volume("default").journal()
        if row.operation in EVENTS
    ]
    assert len(changes) == len(set(changes))
    names = [name.removeprefix("agent.") for name, _ in changes]
    assert names[0] == "spawn"
    assert set(names[1::2]) == {"pause"}
    assert set(names[2::2]) == {"resume"}
    assert lives.show(WRITER).state == "running"


@pytest.mark.parametrize(("verb", "state"), [("kill", "killed"), ("pause", "paused")])
@pytest.mark.parametrize("known", [True, False])
def test_a_spawn_does_not_undo_what_was_said_meanwhile(
    kernel: Kernel,
    lives: Lifecycle,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    state: str,
    known: bool,
) -> None:
    """Whoever stops an agent between its branch and its state has the last word."""
    who = Principal(agent="late")
    if known:
        lives.spawn(who)
        lives.kill(who)
    other, make = Lifecycle(kernel), lives._branch

    def branch(*given: Any) -> None:
        make(*given)
        if known:  # somebody else spawned it too
            other.spawn(who)
        getattr(other, verb)(who, reason="emergency")

    monkeypatch.setattr(lives, "_branch", branch)
    assert lives.spawn(who).state == other.show(who).state == state
    assert other.show(who).reason == "emergency"


def test_a_spawn_that_is_finished_does_not_undo_a_pause(
    kernel: Kernel, lives: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked again after the process that spawned it was killed, while another pauses it."""
    row = AgentStates(kernel.database).get(WRITER)
    assert row is not None
    with kernel.database.transaction():
        AgentStates(kernel.database).remove(row)
    other, make = Lifecycle(kernel), lives._row

    def late(*given: Any) -> StateRow:
        other.pause(WRITER)
        return make(*given)

    monkeypatch.setattr(lives, "_row", late)
    assert lives.spawn(WRITER).state == other.show(WRITER).state == "paused"


def test_only_agents_are_listed(kernel: Kernel, lives: Lifecycle) -> None:
    """Neither the template, nor an agent's own branches, nor another tenant's agents are."""
    kernel.agent_files(WRITER).fork("writer~draft")
    kernel.agent_fs(Principal(agent="desk", application="shop"))
    lives.spawn(Principal(tenant="acme", agent="ann"))
    assert [each.key for each in lives.listing("default")] == ["shop:desk", "writer"]
    assert [each.key for each in lives.listing("acme")] == ["ann"]
    assert lives.listing("nobody") == []
    with pytest.raises(NotFoundError, match="fmos agent list"):
        lives.show(Principal(agent="nobody"))


def test_the_state_costs_no_scan(kernel: Kernel) -> None:
    """The privileged path finds it by key."""
    from fmos.runtime import agents

    plan = kernel.database.query(f"EXPLAIN QUERY PLAN {agents._UP}", ("default", "writer"))
    assert not [row for row in plan if "SCAN" in row[3] and "CONSTANT" not in row[3]], plan


def test_outcomes_of_a_paused_agent_are_still_noted(kernel: Kernel, lives: Lifecycle) -> None:
    """A call that was let through before the pause can be settled after it."""
    client = connect(WRITER, kernel=kernel)
    governor = Governor(client)
    governor.register_tools([READ.model_copy(update={"effect": "write", "capability": "fs.write"})])
    governor.open_session()
    asked = operation()
    assert governor.before_tool(asked).allowed
    lives.pause(WRITER)
    done = Outcome(operation=asked.id, status=OutcomeStatus.OK, duration_ms=1)
    client.call("trust_settle", {"outcome": done.model_dump(mode="json")})
    rows = list(kernel.volume("default").journal(operation="op.outcome"))
    assert rows[-1].detail["id"] == asked.id
