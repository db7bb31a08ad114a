"""Realisations that are equivalent, and the sequences that they are compared by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmos.equivalence.checker import Checker, require_alike
from fmos.equivalence.minimal import Shortener
from fmos.equivalence.model import Step, Tolerance
from fmos.equivalence.realisation import BackEnd, Realisation, read_realisation
from fmos.equivalence.running import Decide, run
from fmos.equivalence.sequences import generated_steps, read_steps, written_steps
from fmos.equivalence.strategies import steps as sequences
from fmos.errors import ArgumentError, ContractError
from fmos.runtime.kernel import Kernel
from fmos_trust.approvals import Approvals

CONTRACT = """\
apiVersion: agentos/v0.2
kind: AgentContract
name: worker
capabilities: [fs.read, fs.write, email.send]
modelPolicy: { allow: ["local/8B", "small"] }
security: { consent_for: [email.send] }
budgets: { tokens: 500, tool_calls: 12 }
"""
HERE = Realisation("here", CONTRACT, files={"/docs/begin.txt": "first"})
DAY = [
    Step(do="tool", name="read_file", arguments={"path": "/docs/begin.txt"}),
    Step(do="tool", name="write_file", arguments={"path": "/a.txt", "content": "one"}),
    Step(do="tool", name="write_file", arguments={"path": "/.fmos/x", "content": "no"}),
    Step(do="tool", name="send_mail", arguments={"to": "a@b.c", "text": "hi"}),
    Step(do="answer", approve=True),
    Step(do="tool", name="rm", arguments={}),
    Step(do="model", name="small", tokens=100, used=60),
    Step(do="model", name="huge", tokens=1),
    Step(do="model", name="small", tokens=1_000),
    Step(do="remember", text="the harbour is deep"),
    Step(do="recall", text="harbour"),
    Step(do="observe", text="a user said so"),
    Step(do="tool", name="remove_file", arguments={"path": "/a.txt"}, fails=False),
]


def approvals(kernel: Kernel) -> Decide:
    """A person who answers."""
    return Approvals(kernel).decide


def test_a_day_on_the_same_realisation_is_equivalent() -> None:
    """Twice the same: every promise kept, nothing differs, and each step did what it should."""
    report = Checker(HERE, HERE, approvals=approvals).check(DAY)
    assert (report.passed, report.broken, report.differences) == (True, (), ())
    assert (report.first, report.second) == ("here (1)", "here (2)")
    seen = run(HERE, DAY, approvals).seen
    decisions = [each.facts.get("decision") for each in seen]
    assert decisions == [
        *("allow", "allow", "deny", "ask", "allow", "deny", "allow", "deny", "deny"),
        *(None, None, None, "allow"),
    ]
    assert seen[0].facts["result"] == "first"
    assert seen[10].facts == {"found": ["the harbour is deep"]}


@pytest.mark.parametrize("transport", ["daemon", "http"])
def test_a_daemon_is_equivalent_to_the_same_process(transport: str) -> None:
    """The same sequence over a socket and over HTTP, in a process of its own."""
    there = Realisation("there", CONTRACT, files=HERE.files, transport=transport)  # type: ignore[arg-type]
    report = Checker(HERE, there, approvals=approvals).check(DAY, shorten=False)
    assert report.passed, report


def test_a_synced_volume_is_equivalent() -> None:
    """Another durability changes nothing that can be seen."""
    synced = Realisation("synced", CONTRACT, files=HERE.files, back_end=BackEnd(durability="full"))
    assert Checker(HERE, synced, approvals=approvals).check(DAY).passed


def test_a_back_end_of_its_own_needs_this_process() -> None:
    """A daemon opens its volumes as every home does."""
    daemon = Realisation("d", CONTRACT, transport="daemon", back_end=BackEnd(durability="full"))
    with pytest.raises(ArgumentError, match="transport daemon"):
        run(daemon, DAY[:1])


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sequences())
def test_any_sequence_keeps_the_contract(steps: list[Step]) -> None:
    """What hypothesis makes of the steps holds on two fresh homes, and is equivalent."""
    report = Checker(HERE, HERE, approvals=approvals).check(steps, shorten=False)
    assert report.passed, report


def test_a_narrower_contract_holds_but_is_not_equivalent() -> None:
    """A second realisation that allows less keeps the contract of the first, and differs."""
    narrow = Realisation("narrow", CONTRACT.replace("fs.write, ", ""), files=HERE.files)
    report = Checker(HERE, narrow, approvals=approvals).check(DAY)
    assert report.holds == {"here": True, "narrow": True}
    assert not report.equivalent
    assert report.differences[0].index == 1
    assert [step.name for step in report.counterexample] == ["write_file"]


def test_spending_may_differ_by_a_tolerance() -> None:
    """A realisation whose policy refuses one model call spends less, within the tolerance."""
    less = Realisation("less", CONTRACT.replace("tokens: 500", "tokens: 90"), files=HERE.files)
    steps = [Step(do="model", name="small", tokens=100, used=60)]
    strict = Checker(HERE, less).check(steps)
    assert any(each.what.startswith("tokens of") for each in strict.differences)
    wide = Checker(HERE, less, tolerance=Tolerance(spend=60)).check(steps)
    assert not any(each.what.startswith("tokens of") for each in wide.differences)
    assert [each.index for each in wide.differences if each.index is not None] == [0, 0]


def test_time_moves_in_process_only() -> None:
    """An approval that comes too late is none; a daemon's clock cannot be moved."""
    late = [DAY[3], Step(do="advance", seconds=100_000), Step(do="tool", name="read_file")]
    assert Checker(HERE, HERE, approvals=approvals).check(late).passed
    with pytest.raises(ArgumentError, match="time cannot be moved"):
        run(Realisation("d", CONTRACT, transport="daemon"), [late[1]])


def test_sequences_are_read_and_written() -> None:
    """JSON lines come back as they were, and a mistake is named with its line."""
    assert read_steps(f"# a day\n\n{written_steps(DAY)}", "day") == DAY
    for text, said in (("{}", "day:1: do"), ('{"do": "fly"}', "day:1: do"), ("[1", "not JSON")):
        with pytest.raises(ArgumentError, match=said):
            read_steps(text, "day")
    with pytest.raises(ArgumentError, match="0 operations"):
        read_steps("", "day")


@given(st.integers(1, 50), st.integers())
def test_a_seed_makes_the_same_sequence(count: int, seed: int) -> None:
    """The same count and seed give the same steps."""
    made = generated_steps(count, seed)
    assert len(made) == count
    assert made == generated_steps(count, seed)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40, unique=True), st.data())
def test_shortening_finds_what_is_needed(numbers: list[int], data: st.DataObject) -> None:
    """Of any sequence, exactly the steps that make it fail are left."""
    needed = set(data.draw(st.lists(st.sampled_from(numbers), max_size=3)))
    steps = [Step(do="observe", text=str(number)) for number in numbers]
    shortener = Shortener(lambda part: needed <= {int(each.text) for each in part}, 2_000, 60)
    found = {int(each.text) for each in shortener.shortest(steps)}
    assert needed <= found
    assert len(found) == max(1, len(needed))


def test_shortening_stops_after_its_tries() -> None:
    """The shortest sequence found so far is returned when the tries are used up."""
    steps = [Step(do="observe", text=str(number)) for number in range(64)]
    shortener = Shortener(lambda part: True, 3, 60)
    assert 1 < len(shortener.shortest(steps)) < 64
    assert shortener.tries == 3


def test_a_realisation_is_read_from_yaml(tmp_path: Path) -> None:
    """Documents are found beside it; tools, files, artefacts and back end are its own."""
    (tmp_path / "worker.yaml").write_text(CONTRACT)
    (tmp_path / "hint.txt").write_text("be short")
    text = {
        "contract": "worker.yaml",
        "transport": "daemon",
        "tools": [{"name": "look", "capability": "fs.read", "effect": "read"}],
        "files": {"/a": "b"},
        "artefacts": {"prompt/style": "hint.txt"},
        "back_end": {"durability": "full"},
    }
    path = tmp_path / "there.yaml"
    path.write_text(json.dumps(text))
    found = read_realisation(path)
    assert (found.name, found.transport, found.tools[0].name) == ("there", "daemon", "look")
    assert found.artefacts == {"prompt/style": "be short"}
    assert found.principal.agent == "worker"
    path.write_text(json.dumps({**text, "contract": "nowhere.yaml"}))
    with pytest.raises(ArgumentError, match=r"nowhere\.yaml"):
        read_realisation(path)
    path.write_text(json.dumps({**text, "transprt": 1}))
    with pytest.raises(ArgumentError, match="transprt"):
        read_realisation(path)


def test_artefacts_and_files_are_there_at_the_start() -> None:
    """What a realisation brings is in the agent's branch before its first operation."""
    own = Realisation("own", CONTRACT, files={"/x/y.txt": "z"}, artefacts={"prompt/p": "v2"})
    read = [Step(do="tool", name="read_file", arguments={"path": "/x/y.txt"})]
    ran = run(own, read)
    assert ran.files == {"/x/y.txt": "z"}
    assert ran.seen[0].facts["result"] == "z"


def test_another_spelling_of_a_path_is_the_same_file() -> None:
    """Written, refused and removed files are told apart as agentfs tells them apart."""
    spelled = Realisation("spelled", CONTRACT, files={"/docs/../begin.txt": "first"})
    steps = [
        Step(do="tool", name="write_file", arguments={"path": "/../e.txt", "content": "one"}),
        Step(do="tool", name="write_file", arguments={"path": "/x/.//e.txt", "content": "two"}),
        Step(do="tool", name="remove_file", arguments={"path": "/x/../x/e.txt"}),
        Step(do="tool", name="write_file", arguments={"path": "no/../root", "content": "no"}),
        Step(do="tool", name="read_file", arguments={"path": "/./e.txt"}),
    ]
    report = Checker(spelled, spelled, approvals=approvals).check(steps, shorten=False)
    assert report.passed, report
    ran = run(spelled, steps, approvals)
    assert ran.files == ran.expected == {"/begin.txt": "first", "/e.txt": "one"}
    assert ran.touched == {"/e.txt": 0, "/x/e.txt": 2}
    assert ran.seen[4].facts["result"] == "one"


def test_an_equal_call_that_waits_is_answered_once() -> None:
    """Two equal calls wait under one approval: a second answer finds nothing that waits."""
    mail = Step(do="tool", name="send_mail", arguments={"to": "a@b.c", "text": "hi"})
    steps = [mail, mail, Step(do="answer"), Step(do="answer"), mail, Step(do="answer")]
    report = Checker(HERE, HERE, approvals=approvals).check(steps)
    assert report.passed, report
    facts = [each.facts for each in run(HERE, steps, approvals).seen]
    assert [each.get("waits") for each in facts] == [None, None, True, False, None, True]
    assert [facts[2]["decision"], facts[5]["decision"]] == ["allow", "allow"]


def test_an_answer_that_comes_too_late_is_seen() -> None:
    """What waited longer than an approval lasts is not carried out, and the run goes on."""
    mail = Step(do="tool", name="send_mail", arguments={"to": "a@b.c", "text": "hi"})
    steps = [mail, Step(do="advance", seconds=601), Step(do="answer"), mail, Step(do="answer")]
    assert Checker(HERE, HERE, approvals=approvals).check(steps).passed
    facts = [each.facts for each in run(HERE, steps, approvals).seen]
    assert facts[2] == {"waits": True, "error": ArgumentError.code}
    assert facts[4]["decision"] == "allow"


@pytest.mark.parametrize("seed", [0, 1])
def test_a_hundred_generated_operations_are_equivalent(seed: int) -> None:
    """What the command generates keeps the contract here, whichever paths and answers it has."""
    steps = generated_steps(100, seed)
    assert {step.arguments.get("path") for step in steps} >= {"/../e.txt", "/.fmos/memory/x"}
    told: list[tuple[str, int]] = []

    def tell(what: str, done: int) -> None:
        told.append((what, done))

    report = Checker(HERE, HERE, approvals=approvals).check(steps, progress=tell)
    assert report.passed, report
    assert [done for _, done in told] == [*range(100), *range(100)]
    assert {what for what, _ in told} == {f"operations on here ({n})" for n in (1, 2)}


def test_realisations_of_two_agents_are_refused() -> None:
    """Their accounts could never be the same."""
    other = Realisation("other", CONTRACT.replace("worker", "clerk"))
    with pytest.raises(ArgumentError, match="clerk"):
        require_alike(HERE, other)
    with pytest.raises(ContractError):
        Checker(HERE, Realisation("broken", "kind: AgentContract"))
