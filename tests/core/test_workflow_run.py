"""The runner: steps in order under their contracts, people asked, failures undone."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fmos.clock import FixedClock
from fmos.contract.parse import load_as
from fmos.contract.workflow import Workflow
from fmos.errors import (
    AdmissionError,
    ArgumentError,
    BindingError,
    CompensationError,
    DeniedError,
    FormatError,
    NotFoundError,
)
from fmos.runtime.kernel import Kernel
from fmos.runtime.lifecycle import Lifecycle
from fmos.steps.model import NotDone
from fmos.steps.saga import BackOff
from fmos.types import Principal
from fmos.workflow.actors import Actor, Retryable, StepCall
from fmos.workflow.model import Progress, RunOptions
from fmos.workflow.runner import Runner
from fmos.workflow.waits import expire_waits

QUICK = BackOff(attempts=3, first_s=0.001)

RELEASE = """
workflow: weekly_release
steps:
  - id: plan
    agent: planner
    bind: smooth
    contract: { latency_class: SRT, capabilities: [ "tools.plan" ] }
    in: { user_query: string }
    out: { plan: json }
  - id: browse
    agent: browser_agent
    bind: strict
    contract: { latency_class: SRT, capabilities: [ "web.fetch" ],
      policies: { allow: ["web.fetch"], deny: ["fs.write"] } }
    in: { plan: json }                  # comment
    out: { pages: [html] }
  - id: write
    agent: writer
    bind: smooth
    contract: { latency_class: SRT, capabilities: [ "rag.retrieve", "summarize" ],
      budgets: { tokens: 50k } }
    in: { pages: [html] }
    out: { answer: markdown, citations: [uri] }
  - id: approve_send
    type: HITL_approval
    policy: { consent_for: ["email.send"] }
    in: { answer, citations }
"""

TWO = """
workflow: two
steps:
  - { id: one, agent: a, contract: { capabilities: [ x, fs.write ] }, out: { n: integer } }
  - { id: two, agent: b, contract: { capabilities: [ y ] }, in: { n: integer }, out: { m: string } }
"""


class Crew:
    """Actors for a workflow that note what they were called for."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def plan(self, call: StepCall) -> Mapping[str, Any]:
        """Plan."""
        call.use("tools.plan")
        self.log.append(call.step)
        return {"plan": {"query": call.inputs["user_query"]}}

    def browse(self, call: StepCall) -> Mapping[str, Any]:
        """Browse."""
        call.use("web.fetch")
        self.log.append(call.step)
        return {"pages": ["<p>one</p>"]}

    def write(self, call: StepCall) -> Mapping[str, Any]:
        """Write."""
        call.spend(tokens=120)
        self.log.append(call.step)
        return {"answer": "# done", "citations": ["https://example.org/1"]}

    def undo(self, call: StepCall) -> None:
        """Undo."""
        self.log.append(f"undo {call.step}")

    def actors(self, **changed: Actor) -> dict[str, Actor]:
        """The crew of the release."""
        return {
            "planner": Actor(self.plan, "idempotent"),
            "browser_agent": Actor(self.browse, compensate=self.undo),
            "writer": Actor(self.write, "idempotent", compensate=self.undo),
        } | changed


def release() -> Workflow:
    """The printed workflow."""
    return load_as(Workflow, RELEASE)


def runner(kernel: Kernel, actors: Mapping[str, Any], told: list[Progress] | None = None) -> Runner:
    """A runner that does not pause for long."""
    tell = (lambda each: None) if told is None else told.append
    return Runner(kernel, actors, on_progress=tell, back_off=QUICK)


@pytest.fixture
def clocked(tmp_path: Path) -> Iterator[tuple[Kernel, FixedClock]]:
    """A kernel whose time moves only when told to."""
    clock = FixedClock()
    with Kernel.open(tmp_path / "home", clock) as opened:
        yield opened, clock


def test_the_printed_workflow_runs_to_its_approval_and_on(kernel: Kernel) -> None:
    """Steps run in order, the person sees what is decided on, and the approval ends the run."""
    crew, told = Crew(), list[Progress]()
    runs = runner(kernel, crew.actors(), told)
    made = runs.start(release(), {"user_query": "what is new?"}, requested_by="user:ada", run="r1")
    assert (made.state, crew.log) == ("waiting", ["plan", "browse", "write"])
    view = runs.runs.view("r1")
    assert [step.state for step in view.steps] == ["done", "done", "done", "waiting"]
    assert view.steps[3].inputs == {"answer": "# done", "citations": ["https://example.org/1"]}
    [waiting] = runs.runs.pending()
    assert (waiting.step, waiting.kind, waiting.about) == (
        "approve_send", "approval", ("email.send",)
    )  # fmt: skip
    assert runs.resume("r1").state == "waiting"
    runs.answer("r1", "approve_send", True, by="user:eve", comment="fine")
    assert runs.resume("r1").state == "done"
    assert crew.log == ["plan", "browse", "write"]
    assert [each.what for each in told].count("done") == 3
    with pytest.raises(ArgumentError, match="cannot be cancelled"):
        runs.cancel("r1")


def test_outputs_lie_in_the_agents_branches_and_accounts_pay_by_step(kernel: Kernel) -> None:
    """Each agent's system area has its step's outputs; the step's account has what was used."""
    runs = runner(kernel, Crew().actors())
    runs.start(release(), {"user_query": "q"}, run="r1")
    fs = kernel.agent_fs(Principal(agent="planner", session="r1"))
    assert json.loads(fs.read("/.fmos/workflows/r1/plan.json")) == {"plan": {"query": "q"}}
    account = runs.runs.view("r1").steps[2].account
    assert account.endswith("agent:writer/session:r1/step:write")
    own = {(row.account, row.resource): row for row in kernel.ledger.status(account)}
    assert own[account, "tokens"].limit == 50_000
    assert own[account, "tokens"].spent == 120
    assert own["org:default/tenant:default", "tokens"].spent == 120


def test_the_journal_tells_the_run_without_content(kernel: Kernel) -> None:
    """Start, steps, the question and its answer are rows; what was handed on is not."""
    runs = runner(kernel, Crew().actors())
    runs.start(release(), {"user_query": "SECRET"}, run="r1")
    runs.answer("r1", "approve_send", True, by="user:eve", comment="SECRET")
    runs.resume("r1")
    rows = [
        row
        for row in kernel.volume("default").journal()
        if row.operation.startswith(("workflow.", "step."))
    ]
    names = [row.operation for row in rows]
    assert names[0] == "workflow.start"
    assert names.count("step.done") == 3
    assert names[-4:] == ["workflow.waiting", "workflow.answer", "step.complete", "workflow.done"]
    assert not any("SECRET" in str(row.detail) for row in rows)


def test_a_denial_undoes_what_was_done_in_reverse(kernel: Kernel) -> None:
    """The last step that has a compensation is undone first."""
    crew = Crew()
    runs = runner(kernel, crew.actors())
    runs.start(release(), {"user_query": "q"}, run="r1")
    runs.answer("r1", "approve_send", False, by="user:eve", comment="too long")
    ended = runs.resume("r1")
    assert ended.state == "failed"
    assert ended.reason == "approve_send was denied by user:eve: too long"
    assert crew.log == ["plan", "browse", "write", "undo write", "undo browse"]
    with pytest.raises(ArgumentError, match="was denied by user:eve"):
        runs.answer("r1", "approve_send", True, by="user:ada")


def test_a_step_has_no_more_than_both_contracts(kernel: Kernel) -> None:
    """What the agent's own contract lacks, or the step's does, is refused and undone."""
    text = "apiVersion: agentos/v0.2\nkind: AgentContract\nname: {}\ncapabilities: [{}]\n"
    folder = kernel.home.contracts
    (folder / "browser_agent.yaml").write_text(text.format("browser_agent", "fs.read"))
    crew = Crew()
    runs = runner(kernel, crew.actors())
    ended = runs.start(release(), {"user_query": "q"}, run="r1")
    assert ended.state == "failed"
    assert "may not use 'web.fetch'" in ended.reason
    assert crew.log == ["plan"]

    def greedy(call: StepCall) -> Mapping[str, Any]:
        call.use("fs.write")
        return {}

    (folder / "browser_agent.yaml").write_text(text.format("browser_agent", "web.fetch, fs.write"))
    ended = runner(kernel, crew.actors(browser_agent=Actor(greedy))).start(
        release(), {"user_query": "q"}, run="r2"
    )
    assert "may not use 'fs.write'" in ended.reason


def test_a_contract_narrowed_during_the_run_counts(kernel: Kernel) -> None:
    """What was bound is a ceiling; what the home allows now still narrows it."""
    text = "apiVersion: agentos/v0.2\nkind: Policy\nlayer: platform\nmust: { deny: [web.fetch] }\n"
    crew = Crew()

    def plan(call: StepCall) -> Mapping[str, Any]:
        (kernel.home.policies / "now.yaml").write_text(text)
        return {"plan": {}}

    runs = runner(kernel, crew.actors(planner=Actor(plan)))
    ended = runs.start(release(), {"user_query": "q"}, run="r1")
    assert ended.state == "failed"
    assert "may not use 'web.fetch'" in ended.reason


def test_a_budget_of_a_step_is_enforced(kernel: Kernel) -> None:
    """Spending past the step's tokens fails the step before anything was done."""
    crew = Crew()

    def greedy(call: StepCall) -> Mapping[str, Any]:
        call.spend(tokens=50_001)
        return {}

    runs = runner(kernel, crew.actors(writer=Actor(greedy)))
    ended = runs.start(release(), {"user_query": "q"}, run="r1")
    assert ended.state == "failed"
    assert "step:write' has 50000 of 50000 tokens left" in ended.reason
    assert crew.log == ["plan", "browse", "undo browse"]


def test_nothing_begins_that_cannot_be_bound(kernel: Kernel) -> None:
    """A step that the catalogue cannot serve, and one that wants a contract, refuse the run."""
    (kernel.home.path / "catalogue.yaml").write_text("kind: Catalogue\ntools: [tools.plan]\n")
    crew = Crew()
    with pytest.raises(BindingError, match="step 'browse' of 'weekly_release'"):
        runner(kernel, crew.actors()).start(release(), {"user_query": "q"}, run="r1")
    (kernel.home.path / "catalogue.yaml").unlink()
    policy = "apiVersion: agentos/v0.2\nkind: Policy\nlayer: admin\nmust: { contract: required }\n"
    (kernel.home.policies / "admin.yaml").write_text(policy)
    with pytest.raises(AdmissionError, match=r"step 'plan' of 'weekly_release'.*wants a contract"):
        runner(kernel, crew.actors()).start(release(), {"user_query": "q"}, run="r1")
    assert crew.log == []
    with pytest.raises(NotFoundError, match="no run 'r1'"):
        runner(kernel, {}).runs.view("r1")


def test_ports_are_fed_before_the_run_and_checked_in_it(kernel: Kernel) -> None:
    """A port that nothing feeds refuses the run; an output of another type is in doubt or fails."""
    crew = Crew()
    with pytest.raises(ArgumentError, match="nothing hands 'user_query' to step 'plan'"):
        runner(kernel, crew.actors()).start(release(), {})
    with pytest.raises(ArgumentError, match="the input 'user_query' is 3, not string"):
        runner(kernel, crew.actors()).start(release(), {"user_query": 3})
    with pytest.raises(ArgumentError, match="nobody does the work of writer"):
        runner(kernel, dict.fromkeys(("planner", "browser_agent"), crew.plan)).start(release())
    for wrong in ({"pages": "<p>"}, {"pages": [1]}, {"sites": []}, {}, None):
        actors = crew.actors(browser_agent=Actor(lambda call, w=wrong: w, "idempotent"))
        ended = runner(kernel, actors).start(release(), {"user_query": "q"})
        assert ended.state == "failed"
        assert "step 'browse'" in ended.reason


def test_consent_is_asked_before_the_step_runs(kernel: Kernel) -> None:
    """A capability that wants consent blocks its step until a person agrees."""
    text = TWO.replace("capabilities: [ y ]", "capabilities: [ y ], policies: { consent_for: [y] }")
    log: list[str] = []

    def two(call: StepCall) -> Mapping[str, Any]:
        call.use("y")
        log.append("two")
        return {"m": "x"}

    runs = runner(kernel, {"a": lambda call: {"n": 1}, "b": two})
    made = runs.start(load_as(Workflow, text), run="r1")
    assert (made.state, log) == ("waiting", [])
    assert runs.runs.pending()[0].kind == "consent"
    runs.answer("r1", "two", True, by="user:ada")
    assert (runs.resume("r1").state, log) == ("done", ["two"])


def test_a_question_times_out_into_a_denial(clocked: tuple[Kernel, FixedClock]) -> None:
    """After the time given nobody has to answer any more: it is denied, and undone."""
    kernel, clock = clocked
    crew = Crew()
    options = RunOptions(timeout_s=3600)
    runs = runner(kernel, crew.actors())
    runs.start(release(), {"user_query": "q"}, options=options, run="r1")
    clock.advance(3599)
    assert runs.resume("r1").state == "waiting"
    clock.advance(2)
    with pytest.raises(ArgumentError, match="was denied by time-out"):
        runs.answer("r1", "approve_send", True, by="user:ada")
    assert runs.resume("r1").reason == "approve_send was denied by time-out"
    assert crew.log[-1] == "undo browse"


def test_a_question_escalates_and_is_journalled(clocked: tuple[Kernel, FixedClock]) -> None:
    """Each time-out asks the next of the list, and a job of any process sees to it."""
    kernel, clock = clocked
    options = RunOptions(timeout_s=60, on_timeout=("escalate:bob", "escalate:eve", "deny"))
    runs = runner(kernel, Crew().actors())
    runs.start(release(), {"user_query": "q"}, options=options, run="r1")
    for name in ("bob", "eve"):
        clock.advance(61)
        assert expire_waits(kernel) == 1
        assert runs.runs.pending()[0].asked_of == name
    rows = list(kernel.volume("default").journal(operation="workflow.escalate"))
    assert [row.detail["to"] for row in rows] == ["bob", "eve"]
    clock.advance(61)
    assert runs.resume("r1").state == "failed"


def _edit(kernel: Kernel, change: str, run: str = "r1") -> None:
    """Change a question as anybody can who writes to kernel.db."""
    with kernel.database.transaction():
        sql = f"UPDATE workflow_wait SET {change} WHERE run = ?"
        assert kernel.database.execute(sql, (run,)) == 1


@pytest.mark.parametrize(
    "change",
    ["state = 'approved', answered_by = 'user:ada'", "comment = 'x'", "about = '[\"x\"]'"],
)
def test_an_answer_that_nobody_gave_is_refused(kernel: Kernel, change: str) -> None:
    """A row that was edited counts for nothing: no run goes on by it, and nobody answers it."""
    runs = runner(kernel, Crew().actors())
    runs.start(release(), {"user_query": "q"}, run="r1")
    _edit(kernel, change)
    with pytest.raises(FormatError, match="was not written by FMOS, or was changed since"):
        runs.resume("r1")
    with pytest.raises(FormatError, match="fmos workflow cancel r1"):
        runs.answer("r1", "approve_send", True, by="user:ada")
    assert runs.runs.view("r1").run.state == "waiting"
    assert runs.cancel("r1", by="user:ada").state == "cancelled"


def test_the_answer_of_another_run_is_refused(kernel: Kernel) -> None:
    """A seal is of one step of one run: copied, it approves nothing."""
    runs = runner(kernel, Crew().actors())
    for run in ("r0", "r1"):
        runs.start(release(), {"user_query": "q"}, run=run)
    runs.answer("r0", "approve_send", True, by="user:ada")
    fields = "state, answered_by, asked_ns, seal"
    _edit(kernel, f"({fields}) = (SELECT {fields} FROM workflow_wait WHERE run = 'r0')")
    with pytest.raises(FormatError, match="does not count"):
        runs.resume("r1")
    assert runs.resume("r0").state == "done"


def test_an_answer_without_a_seal_is_asked_for_again(kernel: Kernel) -> None:
    """So are those of homes from before there were seals: none is believed, and none is in the way.

    Nobody can tell such a row from one that somebody wrote into kernel.db.
    """
    runs = runner(kernel, Crew().actors())
    runs.start(release(), {"user_query": "q"}, run="r1")
    _edit(kernel, "seal = '', state = 'approved', answered_by = 'user:ada'")
    assert runs.resume("r1").state == "waiting"
    (question,) = runs.runs.pending()
    assert (question.state, question.answered_by) == ("waiting", "")
    _edit(kernel, "seal = ''")  # an open one can be answered at once
    runs.answer("r1", "approve_send", True, by="user:ada")
    assert runs.resume("r1").state == "done"


def test_no_edited_row_lets_more_through_than_was_asked(kernel: Kernel) -> None:
    """What an unsealed question says was consented to before is forgotten with its answer."""
    runs = runner(kernel, Crew().actors())
    runs.start(release(), {"user_query": "q"}, run="r1")
    _edit(kernel, "seal = '', consented = '[\"email.send\", \"rm\"]'")
    assert runs.answer("r1", "approve_send", True, by="user:ada").consented == ()


def test_an_edited_question_holds_up_no_other(clocked: tuple[Kernel, FixedClock]) -> None:
    """It never times out, and those of other runs do."""
    kernel, clock = clocked
    runs = runner(kernel, Crew().actors())
    for run in ("r0", "r1"):
        options = RunOptions(timeout_s=60)
        runs.start(release(), {"user_query": "q"}, options=options, run=run)
    _edit(kernel, "about = '[]'", "r0")
    clock.advance(61)
    assert expire_waits(kernel) == 1
    assert runs.resume("r1").reason == "approve_send was denied by time-out"


def test_with_four_eyes_the_requester_cannot_approve(kernel: Kernel) -> None:
    """Somebody else must; denying is open to all."""
    runs = runner(kernel, Crew().actors())
    options = RunOptions(four_eyes=True)
    runs.start(release(), {"user_query": "q"}, requested_by="user:ada", options=options, run="r1")
    with pytest.raises(DeniedError, match="user:ada started the run"):
        runs.answer("r1", "approve_send", True, by="user:ada")
    runs.answer("r1", "approve_send", True, by="user:eve")
    assert runs.resume("r1").state == "done"


def test_declared_errors_are_retried_and_others_are_not(kernel: Kernel) -> None:
    """A retryable failure is tried as often as the actor says; another ends the run at once."""
    tries: list[int] = []

    def flaky(call: StepCall) -> Mapping[str, Any]:
        tries.append(call.attempt)
        if len(tries) < 3:
            raise Retryable("busy")
        return {"n": 1}

    def broken(call: StepCall) -> Mapping[str, Any]:
        tries.append(call.attempt)
        raise NotDone("broken")

    two = {"b": lambda call: {"m": "x"}}
    document = load_as(Workflow, TWO)
    assert runner(kernel, {"a": Actor(flaky), **two}).start(document, run="r1").state == "done"
    assert tries == [1, 2, 3]
    tries.clear()
    ended = runner(kernel, {"a": Actor(broken), **two}).start(document, run="r2")
    assert (ended.state, tries) == ("failed", [1])


def test_a_step_in_doubt_waits_for_a_person(kernel: Kernel) -> None:
    """An outside effect that may have happened is neither repeated nor undone until one says so."""
    log: list[str] = []

    def send(call: StepCall) -> Mapping[str, Any]:
        log.append(call.idempotency_key)
        raise TimeoutError("no answer")

    actors = {"a": Actor(send), "b": lambda call: {"m": str(call.inputs["n"])}}
    runs = runner(kernel, actors)
    assert runs.start(load_as(Workflow, TWO), run="r1").state == "waiting"
    [waiting] = runs.runs.pending()
    assert (waiting.step, waiting.kind) == ("one", "doubt")
    assert runs.resume("r1").state == "waiting"
    with pytest.raises(ArgumentError, match="did not return 'n'"):
        runs.resolve("r1", "one", True, by="user:ada")
    runs.resolve("r1", "one", True, by="user:ada", outputs={"n": 7})
    assert runs.resume("r1").state == "done"
    assert len(log) == 1
    assert runs.runs.view("r1").steps[1].outputs == {"m": "7"}


def test_files_are_written_with_the_outcome_or_not_at_all(kernel: Kernel) -> None:
    """What an actor writes through its call is there when, and only when, the step is done."""

    def one(call: StepCall) -> Mapping[str, Any]:
        call.write("/notes/n.md", "text")
        assert call.read("/notes/n.md") == b"text"
        if call.run == "bad":
            raise NotDone("late")
        return {"n": 1}

    runs = runner(kernel, {"a": Actor(one), "b": lambda call: {"m": "x"}})
    files = kernel.agent_files(Principal(agent="a", session="x"))
    assert runs.start(load_as(Workflow, TWO), run="bad").state == "failed"
    assert not files.exists("/notes")
    assert runs.start(load_as(Workflow, TWO), run="good").state == "done"
    assert files.read("/notes/n.md") == b"text"


def test_a_compensation_that_fails_waits_for_a_person_with_all_that_is_left(kernel: Kernel) -> None:
    """It is retried, then the run is stuck; done by hand and said so, the rest is undone."""
    crew, tries = Crew(), list[int]()

    def stubborn(call: StepCall) -> None:
        tries.append(call.attempt)
        raise OSError("locked")

    actors = crew.actors(
        writer=Actor(crew.write, "idempotent", compensate=stubborn),
    )
    runs = runner(kernel, actors)
    runs.start(release(), {"user_query": "q"}, run="r1")
    with pytest.raises(CompensationError, match="undone so far: nothing; left: write, browse"):
        runs.cancel("r1", by="user:ada", reason="no need")
    assert tries == [1, 2, 3]
    assert runs.runs.view("r1").run.state == "stuck"
    kinds = {each.step: each.kind for each in runs.runs.pending()}
    assert kinds["undo:write"] == "compensation"
    runs.resolve("r1", "undo:write", True, by="user:ada")
    ended = runs.resume("r1")
    assert (ended.state, ended.reason) == ("cancelled", "cancelled by user:ada: no need")
    assert crew.log[-1] == "undo browse"


def test_a_run_is_asked_for_once(kernel: Kernel) -> None:
    """The same id and inputs go on with the run; others are an error."""
    crew = Crew()
    runs = runner(kernel, crew.actors())
    for _ in range(2):
        runs.start(release(), {"user_query": "q"}, run="r1")
    assert crew.log == ["plan", "browse", "write"]
    with pytest.raises(ArgumentError, match="other steps or inputs"):
        runs.start(release(), {"user_query": "other"}, run="r1")


def test_two_that_advance_one_run_at_once_have_one_effect_each(kernel: Kernel) -> None:
    """Whoever comes second waits for the outcome of the first, and both see the run end."""
    crew, states = Crew(), list[str]()
    both = threading.Barrier(2)

    def slow(call: StepCall) -> Mapping[str, Any]:
        return {"n": len(crew.log)}

    def two(call: StepCall) -> Mapping[str, Any]:
        crew.log.append(call.step)
        return {"m": "x"}

    def go() -> None:
        both.wait()
        runs = runner(kernel, {"a": slow, "b": two})
        states.append(runs.start(load_as(Workflow, TWO), run="r1").state)

    threads = [threading.Thread(target=go) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (states, crew.log) == (["done", "done"], ["two"])


def test_a_paused_agent_holds_its_run(kernel: Kernel) -> None:
    """The run stays where it is, undone by nothing, and goes on when the agent does."""
    crew = Crew()
    who = Principal(agent="browser_agent")
    kernel.agent_fs(who)
    life = Lifecycle(kernel)
    life.pause(who)
    runs = runner(kernel, crew.actors())
    with pytest.raises(DeniedError, match="is paused"):
        runs.start(release(), {"user_query": "q"}, run="r1")
    assert (crew.log, runs.runs.view("r1").run.state) == (["plan"], "running")
    life.resume(who)
    assert runs.resume("r1").state == "waiting"
    assert crew.log == ["plan", "browse", "write"]


def test_a_consent_covers_what_it_was_asked_about(kernel: Kernel) -> None:
    """What a contract wants consent for since is asked anew, and both answers count together."""
    text = TWO.replace("capabilities: [ y ]", "capabilities: [ y, z ]")
    own = (
        "apiVersion: agentos/v0.2\nkind: AgentContract\nname: b\ncapabilities: [y, z]\n"
        "security: {{ consent_for: [{}] }}\n"
    )
    kernel.contracts.save(own.format("y"))
    runs = runner(kernel, {"a": lambda call: {"n": 1}, "b": lambda call: {"m": "x"}})
    runs.start(load_as(Workflow, text), run="r1")
    runs.answer("r1", "two", True, by="user:ada")
    kernel.contracts.save(own.format("y, z"))
    assert runs.resume("r1").state == "waiting"
    [asked] = runs.runs.pending()
    assert (asked.about, asked.consented, asked.answered_by) == (("z",), ("y",), "")
    runs.answer("r1", "two", True, by="user:eve")
    assert runs.resume("r1").state == "done"
    rows = kernel.volume("default").journal(operation="workflow.wait")
    assert [row.detail["about"] for row in rows] == [["y"], ["z"]]


@pytest.mark.parametrize("stop", ["pause", "kill"])
@pytest.mark.parametrize("what", ["use", "spend", "write"])
def test_a_stopped_agents_step_goes_no_further(kernel: Kernel, stop: str, what: str) -> None:
    """It uses, spends and writes nothing more; the run stands, and goes on when the agent does."""
    who, life, tried = Principal(agent="a"), Lifecycle(kernel), list[int]()
    kernel.agent_fs(who)

    def one(call: StepCall) -> Mapping[str, Any]:
        tried.append(call.attempt)
        if len(tried) == 1:
            life.pause(who) if stop == "pause" else life.kill(who, reason="enough")
        if what == "use":
            call.use("x")
        elif what == "spend":
            call.spend(tokens=1)
        else:
            call.write("/late", "x")
        return {"n": call.attempt}

    runs = runner(kernel, {"a": Actor(one, "idempotent"), "b": lambda call: {"m": "x"}})
    made = runs.start(load_as(Workflow, TWO), run="r1")
    assert (made.state, made.reason[:9], tried) == ("waiting", "the agent", [1])
    life.resume(who) if stop == "pause" else life.spawn(who)
    assert (runs.resume("r1").state, tried) == ("done", [1, 2])


def test_an_effect_outside_before_a_refused_write_is_in_doubt(kernel: Kernel) -> None:
    """Nobody knows what an actor did before it was stopped, so it is not done again."""
    who, tried = Principal(agent="a"), list[int]()
    kernel.agent_fs(who)

    def one(call: StepCall) -> Mapping[str, Any]:
        tried.append(call.attempt)
        Lifecycle(kernel).pause(who)
        call.write("/late", "x")
        return {"n": 1}

    runs = runner(kernel, {"a": one, "b": lambda call: {"m": "x"}})
    assert runs.start(load_as(Workflow, TWO), run="r1").state == "waiting"
    Lifecycle(kernel).resume(who)
    assert "is not known" in runs.resume("r1").reason
    assert tried == [1]


@pytest.mark.parametrize("effect", ["outside", "idempotent", "volume"])
def test_an_agent_paused_between_two_attempts_undoes_nothing(kernel: Kernel, effect: Any) -> None:
    """The run waits, with no step in doubt, and goes on when the agent does."""
    who, life, log = Principal(agent="b"), Lifecycle(kernel), list[str]()
    kernel.agent_fs(who)

    def two(call: StepCall) -> Mapping[str, Any]:
        log.append("two")
        if len(log) == 1:
            life.pause(who)
            raise Retryable("busy")
        return {"m": "x"}

    def undo(call: StepCall) -> None:
        log.append(f"undo {call.step}")

    one = Actor(lambda call: {"n": 1}, compensate=undo)
    runs = runner(kernel, {"a": one, "b": Actor(two, effect, compensate=undo)})
    made = runs.start(load_as(Workflow, TWO), run="r1")
    assert made.state == "waiting"
    assert "is paused" in made.reason
    life.resume(who)
    assert (runs.resume("r1").state, log) == ("done", ["two", "two"])
