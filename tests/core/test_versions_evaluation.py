"""Candidates are judged on held-out traces, before and after on the same ones; the gate obeys."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.core.trajectories import write_runs

from fmos.audit.record import record_intent
from fmos.client import ToolDescriptor, connect
from fmos.clock import FixedClock
from fmos.drivers import Drivers, Offer
from fmos.errors import ArgumentError, DeniedError, DriverError, FormatError
from fmos.runtime.kernel import Kernel
from fmos.settings import DriverSettings, VersionSettings
from fmos.traps import training
from fmos.traps.learned import TrapModel
from fmos.traps.replay import Run
from fmos.types import Decision, Operation, OperationKind, Principal, Verdict
from fmos.versions.evaluation import evaluated
from fmos.versions.metrics import PLUGINS, Metric, Scores, by_command, offline
from fmos.versions.model import Candidate
from fmos.versions.traces import (
    Traces,
    read_traces,
    traces_of_journal,
    traces_of_recordings,
)
from fmos.versions.versions import Versions

ADA, BOB = "user:ada", "user:bob"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 120 made-up runs."""
    return write_runs(tmp_path_factory.mktemp("runs") / "calls.jsonl", 120)


@pytest.fixture(scope="module")
def model(data: Path) -> TrapModel:
    """Learned traps of that file."""
    return training.train(data, FixedClock(), name="made-up", false_traps=0.05)


def content_of(model: TrapModel, *, threshold: float | None = None) -> bytes:
    """Return an artefact's bytes, with another threshold of its full line if one is given."""
    if threshold is not None:
        full = model.full.model_copy(update={"threshold": threshold})
        model = model.model_copy(update={"full": full, "digest": ""}).sealed()
    return model.model_dump_json().encode()


def proposed(versions: Versions, content: bytes, metric: str = "recall") -> Candidate:
    """Return a candidate for the learned traps `traps`."""
    return versions.propose(
        "default", "trap_model", "traps", content, author=ADA, why="try it", metric=metric
    )


def test_the_gate_refuses_a_regression_on_held_out_traces(
    kernel: Kernel, data: Path, model: TrapModel
) -> None:
    """Learned traps that catch less than the accepted ones are not let in (R18)."""
    versions, traces = Versions(kernel), read_traces(data)
    good = proposed(versions, content_of(model))
    assert versions.evaluate(good, traces, by=ADA).outcome == "passed"
    versions.accept(good, by=BOB)
    bad = proposed(versions, content_of(model, threshold=0.999))
    found = versions.evaluate(bad, traces, by=ADA)
    recall = found.comparisons[0]
    assert found.outcome == "regressed"
    assert found.base == good.id
    assert recall.metric == "recall"
    assert recall.after < recall.before
    assert recall.high < 0
    with pytest.raises(DeniedError, match="recall went from"):
        versions.accept(bad, by=BOB)
    with pytest.raises(DeniedError, match="recall went from"):
        versions.canary(bad, 0.1, by=BOB)
    versions.accept(bad, by=BOB, override="fewer false traps matter more this week")
    last = [row.detail for row in versions.log("default") if row.operation == "version.accept"][-1]
    assert last["override"].startswith("fewer false traps")


def test_an_evaluation_counts_against_the_accepted_version_only(
    kernel: Kernel, data: Path, model: TrapModel
) -> None:
    """What passed against another base is evaluated again before it is accepted."""
    versions, traces = Versions(kernel), read_traces(data)
    late = proposed(versions, content_of(model, threshold=0.4))
    assert versions.evaluate(late, traces, by=ADA).outcome == "passed"
    versions.accept(proposed(versions, content_of(model)), by=BOB, override="in a hurry")
    with pytest.raises(DeniedError, match="against another version"):
        versions.accept(late, by=BOB)


def test_only_runs_that_were_held_out_judge_a_model(
    kernel: Kernel, data: Path, model: TrapModel
) -> None:
    """Of its own training file a model is judged by the runs that training did not see."""
    versions = Versions(kernel)
    found = versions.evaluate(proposed(versions, content_of(model)), read_traces(data), by=ADA)
    recall = found.comparisons[0]
    assert recall.after == pytest.approx(model.metrics["held_out"].recall, abs=1e-4)
    assert found.traces < 120 / 2
    wide = read_traces(data, held_out=0.9)
    again = versions.evaluate(proposed(versions, content_of(model)), wide, by=ADA)
    assert again.traces == found.traces


def _runs(count: int) -> Traces:
    runs = tuple(Run(f"run{number}", f"run{number}", "") for number in range(count))
    return Traces(runs, "made up", held_out=1.0)


def _candidate(metric: str = "score") -> Candidate:
    return Candidate(
        tenant="default", kind="prompt", name="system", id="0" * 64, size=1, authors=(ADA,),
        why="x", metric=metric, better="higher", base="", proposed_ns=0,
    )  # fmt: skip


def _metric(before: Sequence[float], after: Sequence[float]) -> Metric:
    def score(content: bytes | None, traces: Traces) -> Scores:
        values = after if content == b"after" else before
        return {"score": {run.name: (values[n], 1.0) for n, run in enumerate(traces.runs)}}

    return Metric({"score": "higher"}, score)


@pytest.mark.parametrize(
    ("count", "before", "after", "outcome"),
    [
        (40, [0.5] * 40, [0.5] * 40, "passed"),
        (40, [0.5] * 40, [0.49] * 40, "regressed"),
        (40, [0.5] * 40, [0.6] * 40, "passed"),
        (29, [0.5] * 29, [0.9] * 29, "too_few"),
        (40, [0.5] * 40, [1.0, 0.0] * 19 + [0.0, 0.0], "inconclusive"),
        (40, [0.0, 1.0] * 20, [0.0, 1.0] * 19 + [0.0, 0.9], "passed"),
    ],
)
def test_outcomes(count: int, before: list[float], after: list[float], outcome: str) -> None:
    """Worse for sure is a regression; perhaps worse does not pass; a hair worse does."""
    metric = _metric(before, after)
    found = evaluated(_candidate(), b"before", b"after", _runs(count), VersionSettings(), metric)
    assert found.outcome == outcome


def test_small_steps_do_not_drift_away(tmp_path: Path) -> None:
    """Each step is too small to show, and together they are worse than where it began (R18)."""
    wave = [0.15 if number % 2 else -0.17 for number in range(64)]
    values = {b"zero": [0.5] * 64, b"one": [0.5 + each for each in wave], b"two": [0.48] * 64}

    def score(content: bytes | None, traces: Traces) -> Scores:
        found = values[content] if content else [0.0] * 64
        return {"score": {run.name: (found[n], 1.0) for n, run in enumerate(traces.runs)}}

    (tmp_path / "fmos.toml").write_text("[versions]\ntolerance = 0.2\n", encoding="utf-8")
    with Kernel.open(tmp_path) as kernel:
        versions = Versions(kernel)
        outcomes: list[tuple[str, str]] = []
        for content in values:
            candidate = versions.propose(
                "default", "prompt", "system", content, author=ADA, why="x", metric="score"
            )
            metric = Metric({"score": "higher"}, score)
            found = versions.evaluate(candidate, _runs(64), by=ADA, metric=metric)
            outcomes.append((found.outcome, found.why))
            if found.outcome == "passed":
                versions.accept(candidate, by=BOB)
        assert [outcome for outcome, _ in outcomes] == ["passed", "passed", "regressed"]
        assert "the first version that was accepted" in outcomes[-1][1]


def test_the_same_question_has_the_same_answer() -> None:
    """The interval is drawn from the candidate and its traces, not from chance."""
    metric = _metric([0.1 * (n % 7) for n in range(40)], [0.1 * (n % 5) for n in range(40)])
    found = [
        evaluated(_candidate(), b"before", b"after", _runs(40), VersionSettings(), metric)
        for _ in range(2)
    ]
    assert found[0] == found[1]
    one = found[0].comparisons[0]
    assert one.low < one.improvement < one.high


def test_held_out_depends_on_names_only(data: Path) -> None:
    """The same traces are held out in every process and order."""
    traces = read_traces(data)
    held = {run.name for run in traces.judged().runs}
    turned = Traces(tuple(reversed(traces.runs)), traces.source, traces.held_out)
    assert {run.name for run in turned.judged().runs} == held
    assert 20 < len(held) < 55


POLICY = """
apiVersion: agentos/v0.2
kind: Policy
layer: tenant
name: default
must: { deny: [%s] }
"""


def test_a_policy_is_judged_by_the_calls_it_stops(kernel: Kernel, data: Path) -> None:
    """What stops harmless calls regresses; what stops none passes, and changes are counted."""
    versions, traces = Versions(kernel), read_traces(data)
    harsh, mild = (
        versions.propose(
            "default", "policy", "careful", (POLICY % tool).encode(), author=ADA, why="safer"
        )
        for tool in ("pay", "list_things")
    )
    found = versions.evaluate(harsh, traces, by=ADA)
    assert found.outcome == "regressed"
    assert found.metric == "harmless_stopped"
    assert set(found.changed) == {"allow->deny"}
    gentle = versions.evaluate(mild, traces, by=ADA)
    assert gentle.outcome == "passed"
    assert {each.metric: each.after for each in gentle.comparisons}["harm_stopped"] > 0
    versions.accept(mild, by=BOB)


def test_the_journal_is_a_recording_too(kernel: Kernel) -> None:
    """Sessions in the journal judge a policy: what was asked, and what was decided then."""
    for number in range(50):
        who = Principal(agent="helper", session=f"s{number}")
        for tool, decision in (("read_file", Decision.ALLOW), ("mail", Decision.DENY)):
            operation = Operation(kind=OperationKind.TOOL_CALL, name=tool, principal=who)
            record_intent(kernel, operation, Verdict(operation=operation.id, decision=decision))
    versions = Versions(kernel)
    candidate = versions.propose(
        "default", "policy", "careful", (POLICY % "mail, read_file").encode(),
        author=ADA, why="safer", metric="denial_rate",
    )  # fmt: skip
    traces = traces_of_journal(kernel.volume("default"), held_out=0.9)
    found = versions.evaluate(candidate, traces, by=ADA)
    rate = {each.metric: each for each in found.comparisons}["denial_rate"]
    assert (rate.before, rate.after) == (0.5, 1.0)
    assert found.outcome == "regressed"
    count = len(traces.judged().runs)
    assert found.changed == {"allow->deny": count}


def test_recordings_judge_a_policy(kernel: Kernel) -> None:
    """What sessions really asked, with arguments and capabilities, is decided under the policy."""
    kernel.home.contracts.mkdir(exist_ok=True)
    (kernel.home.contracts / "helper.yaml").write_text(
        "apiVersion: agentos/v0.2\nkind: AgentContract\nname: helper\n"
        "capabilities: [fs.write]\nsecurity: { paths: { write: ['/**'] } }\n"
    )
    tool = ToolDescriptor(
        name="save", capability="fs.write", effect="write", roles={"path": "path"}
    )
    for number in range(40):
        who = Principal(agent="helper", session=f"s{number}")
        with connect(who, kernel=kernel) as client:
            client.call("trust_register_tools", {"tools": [tool.model_dump(mode="json")]})
            path = "/notes/a.txt" if number % 2 else "/secret/a.txt"
            operation = Operation(
                kind=OperationKind.TOOL_CALL, name="save", arguments={"path": path}
            )
            asked = {"operation": operation.model_dump(mode="json")}
            assert client.call("trust_check", asked)["decision"] == "allow"
    versions = Versions(kernel)
    policy = POLICY.replace("deny: [%s]", "paths: { write: ['/notes/**'] }")
    candidate = versions.propose(
        "default", "policy", "notes", policy.encode(), author=ADA, why="x", metric="denial_rate"
    )
    traces = traces_of_recordings(kernel, "default", held_out=1.0)
    found = versions.evaluate(candidate, traces, by=ADA)
    assert found.changed == {"allow->deny": 20}
    assert found.outcome == "regressed"


def test_a_journal_without_sessions_judges_nothing(kernel: Kernel) -> None:
    """Nothing recorded is an error with the way out, not an evaluation of nothing."""
    with pytest.raises(ArgumentError, match="--traces FILE"):
        traces_of_journal(kernel.volume("default"))
    with pytest.raises(ArgumentError, match="--traces FILE"):
        traces_of_recordings(kernel, "default")


_SCORER = """
import json, sys
content = open(sys.argv[1]).read()
for line in open(sys.argv[2]):
    run = json.loads(line)
    print(json.dumps({"trace": run["trace"], "value": len(content) + len(run["calls"])}))
"""


def test_a_program_computes_a_metric(kernel: Kernel, data: Path, tmp_path: Path) -> None:
    """Any kind is judged by a command that prints a value for each trace."""
    (tmp_path / "score.py").write_text(_SCORER, encoding="utf-8")
    versions = Versions(kernel)
    candidate = versions.propose(
        "default", "prompt", "system", b"be kind", author=ADA, why="x", metric="length"
    )
    metric = by_command("length", "higher", f"{sys.executable} {tmp_path / 'score.py'}")
    found = versions.evaluate(candidate, read_traces(data), by=ADA, metric=metric)
    one = found.comparisons[0]
    assert found.outcome == "passed"
    assert one.improvement == pytest.approx(len(b"be kind"))


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import sys; print('no', file=sys.stderr); sys.exit(3)", "ended with 3: no"),
        ("print('{}')", "gave no metric"),
        ("print('nonsense')", "gave no metric"),
        ("", "gave no value for"),
    ],
)
def test_a_program_that_computes_nothing_is_an_error(
    kernel: Kernel, data: Path, tmp_path: Path, program: str, said: str
) -> None:
    """A failing program is named, and no evaluation is kept."""
    (tmp_path / "score.py").write_text(program, encoding="utf-8")
    versions = Versions(kernel)
    candidate = versions.propose(
        "default", "prompt", "system", b"be kind", author=ADA, why="x", metric="length"
    )
    metric = by_command("length", "higher", f"{sys.executable} {tmp_path / 'score.py'}")
    with pytest.raises(FormatError, match=said):
        versions.evaluate(candidate, read_traces(data), by=ADA, metric=metric)
    kept = versions.candidate("default", "prompt", "system", candidate.id)
    assert kept.evaluation is None


def shortness(content: bytes | None, runs: Sequence[Run]) -> dict[str, float]:
    """Score as a plug-in does: how long the content is."""
    return {run.name: float(len(content or b"")) for run in runs}


shortness.better = "lower"  # type: ignore[attr-defined]


def test_a_plug_in_computes_a_metric(data: Path) -> None:
    """An entry point of `fmos.metrics` is found by name, where the home allows it."""
    offers = [Offer("short", f"{__name__}:shortness", "acme 1.0")]
    allowed = DriverSettings(allowed=("short",))
    metric = offline("prompt", "short", Drivers(PLUGINS, allowed, installed=lambda _: offers))
    candidate = _candidate("short").model_copy(update={"better": "lower"})
    found = evaluated(candidate, b"a", b"ab", read_traces(data), VersionSettings(), metric)
    assert found.outcome == "regressed"
    with pytest.raises(DriverError, match="not allowed"):
        offline("prompt", "short", Drivers(PLUGINS, installed=lambda _: offers))


def test_a_metric_that_nothing_computes_is_named(kernel: Kernel, data: Path) -> None:
    """Without a program or plug-in the answer says what there is to do."""
    versions = Versions(kernel)
    candidate = versions.propose(
        "default", "prompt", "system", b"be kind", author=ADA, why="x", metric="charm"
    )
    with pytest.raises(ArgumentError, match=r"'charm' of a prompt .*--command"):
        versions.evaluate(candidate, read_traces(data), by=ADA)


def test_a_file_that_is_no_recording_is_named(tmp_path: Path) -> None:
    """A broken traces file is an error with its line."""
    (tmp_path / "calls.jsonl").write_text(json.dumps({"type": "call", "run": "x"}) + "\n")
    with pytest.raises(FormatError, match="line 1"):
        read_traces(tmp_path / "calls.jsonl")
    with pytest.raises(ArgumentError, match="no share"):
        read_traces(tmp_path / "calls.jsonl", held_out=0)
