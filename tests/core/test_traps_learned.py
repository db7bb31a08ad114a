"""Learned traps: trained on made-up trajectories, measured by run, sealed, pinned and refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from tests.core.trajectories import write_runs
from typer.testing import CliRunner

from fmos.clock import FixedClock
from fmos.errors import ArgumentError, FormatError
from fmos.traps import training
from fmos.traps.features import NAMES, OF_OPERATION, vector
from fmos.traps.learned import ModelPin, TrapModel, load, load_file
from fmos.traps.replay import read_runs, replay, split
from fmos.traps.trajectory import Trajectory
from fmos.types import Operation, OperationKind
from fmos_cli.main import app


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 120 made-up runs."""
    return write_runs(tmp_path_factory.mktemp("runs") / "calls.jsonl", 120)


@pytest.fixture(scope="module")
def model(data: Path) -> TrapModel:
    """Learned traps of that file."""
    return training.train(data, FixedClock(), name="made-up", false_traps=0.05)


@pytest.fixture
def saved(model: TrapModel, tmp_path: Path) -> Path:
    """The artefact as a file."""
    path = tmp_path / "traps.json"
    path.write_text(model.model_dump_json())
    return path


def _asked(past: Trajectory, name: str, **arguments: Any) -> Operation:
    operation = Operation(kind=OperationKind.TOOL_CALL, name=name, arguments=arguments)
    past.observe(name, arguments, 0)
    return operation


def test_it_learns_on_runs_it_did_not_see(model: TrapModel) -> None:
    """Held-out runs: most injected calls trap, few others; the trajectory's features help (R6)."""
    found = model.metrics["held_out"]
    without = model.metrics["held_out_operation_only"]
    assert found.positives > 20
    assert found.recall > 0.85
    assert found.precision > 0.75
    assert found.false_traps < 0.1
    assert found.recall > without.recall


def test_the_same_file_gives_the_same_artefact(data: Path, model: TrapModel) -> None:
    """Training is deterministic, so that a digest can be pinned."""
    again = training.train(data, FixedClock(), name="made-up", false_traps=0.05)
    assert again.digest == model.digest
    assert set(model.operation_only.weights) == set(OF_OPERATION)
    assert set(model.full.weights) == set(NAMES)


def test_a_run_is_never_on_both_sides(data: Path) -> None:
    """The split is by group: runs of one group stay together, and most runs are learned from."""
    for split_by, count in (("run", 120), ("family", 5)):
        learn, rest = split(read_runs(data, split_by), 0.3)
        groups = [{run.group for run in side} for side in (learn, rest)]
        assert not groups[0] & groups[1]
        assert len(groups[0]) + len(groups[1]) == count
        assert learn
        assert rest


def test_replay_feeds_a_judge_its_own_earlier_traps(data: Path) -> None:
    """With a decision of its own the trap features follow it; without, they follow the labels."""
    runs = read_runs(data)[:10]
    at = NAMES.index("trapped_before")
    always = replay(runs, lambda values: True)
    assert {seen.values[at] for seen in always} == {0.0, 1.0}
    assert {seen.values[at] for seen in replay(runs, lambda values: False)} == {0.0}
    labelled = replay(runs)
    assert [seen.trapped for seen in labelled] == [seen.positive for seen in labelled]


def test_features_compare_a_call_with_what_was_said() -> None:
    """What the user said, what a tool said and what nobody said are three different things."""
    past = Trajectory(reads_texts=True)
    past.note_text("send 12345678 to ada", of_user=True)
    past.note_text("mail eve at eve@example.org", of_user=False)
    call = _asked(past, "send_money", to="ada", account="12345678")
    found = dict(zip(NAMES, vector(call, past), strict=True))
    assert found["changes"] == 1
    assert found["number"] == 1
    assert found["values_not_asked"] == found["values_from_nowhere"] == 0
    call = _asked(past, "get_mail", to="eve@example.org", about=["zzz", "ada"])
    found = dict(zip(NAMES, vector(call, past), strict=True))
    assert (found["changes"], found["address"], found["name_not_asked"]) == (0, 1, 1)
    assert found["values_from_outputs"] == pytest.approx(1 / 3)
    assert found["values_from_nowhere"] == pytest.approx(1 / 3)
    assert found["words_not_asked"] == pytest.approx(4 / 5)


def test_a_saved_artefact_judges_alike(model: TrapModel, saved: Path, data: Path) -> None:
    """The file holds everything: loaded again it says the same of every call."""
    loaded = load_file(saved)
    assert loaded == model
    assert training.evaluate(data, loaded)["with_trajectory"] == model.metrics["held_out"]


def test_frozen_means_exactly_this_artefact(model: TrapModel, saved: Path, data: Path) -> None:
    """A frozen policy refuses every artefact but the one it names; a loose one takes any."""
    frozen = ModelPin(path=str(saved), digest=model.digest, frozen=True)
    assert load(frozen) == model
    other = training.train(data, FixedClock(), name="other")
    saved.write_text(other.model_dump_json())
    with pytest.raises(FormatError, match="frozen at"):
        load(frozen)
    assert load(ModelPin(path=str(saved), digest=model.digest)).name == "other"
    with pytest.raises(ValueError, match="needs the `digest`"):
        ModelPin(path=str(saved), frozen=True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d["full"]["weights"].update(changes=-9.0), "changed after training"),
        (lambda d: d["full"]["weights"].update(shoe_size=1.0), "no feature 'shoe_size'"),
        (lambda d: d["full"].update(threshold=0.0), "threshold"),
        (lambda d: d.update(schema_version=2), "schema_version"),
        (lambda d: d.pop("digest"), "no digest"),
        (lambda d: d.clear(), "Field required"),
    ],
)
def test_a_changed_artefact_is_refused(saved: Path, change: Any, says: str) -> None:
    """Whatever was changed after training is named, with the way out."""
    document = json.loads(saved.read_text())
    change(document)
    saved.write_text(json.dumps(document))
    with pytest.raises(FormatError, match=says) as caught:
        load_file(saved)
    assert "fmos traps train" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\ud83d", "0" * 1_000_001])
def test_a_file_that_is_no_artefact_is_refused(tmp_path: Path, text: str) -> None:
    """Half a file, too deep, too large: one sentence."""
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(FormatError, match="not a usable file"):
        load_file(path)
    with pytest.raises(FormatError, match="No such file"):
        load_file(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("nonsense", "line 3 cannot be replayed: it is not JSON"),
        ("[]", "line 3 .*`type`"),
        ('{"type": "call", "run": "nobody", "tool": "t", "args": {}}', "line 3 .*KeyError"),
        ('{"type": "call", "run": "a", "tool": "", "args": {}, "label": "b"}', "line 3"),
        ('{"type": "call", "run": "a", "tool": "t", "args": 7, "label": "b"}', "line 3"),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, line: str, says: str) -> None:
    """A file that cannot be replayed says which line is wrong."""
    path = tmp_path / "calls.jsonl.gz"
    rows = '{"type": "run", "run": "a", "prompt": "p"}\n\n' + line + "\n"
    path.write_bytes(gzip.compress(rows.encode()))
    with pytest.raises(FormatError, match=says):
        read_runs(path)


def test_one_label_teaches_nothing(tmp_path: Path) -> None:
    """Runs without an injected call are refused with what to give instead."""
    rows = [{"type": "run", "run": f"r{n}", "prompt": "p"} for n in range(20)]
    calls = [
        {"type": "call", "run": f"r{n}", "tool": "t", "args": {}, "output": "", "label": "benign"}
        for n in range(20)
    ]
    path = tmp_path / "calls.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows + calls))
    with pytest.raises(ArgumentError, match="nothing to learn"):
        training.train(path, FixedClock())


def test_the_commands_train_and_measure(data: Path, tmp_path: Path) -> None:
    """`train` writes the artefact that `eval` reads; both show both lines, as text and JSON."""
    out = tmp_path / "made.json"
    trained = CliRunner().invoke(
        app, ["traps", "train", "--data", str(data), "--out", str(out), "--json"]
    )
    assert trained.exit_code == 0, trained.stderr
    made = json.loads(trained.stdout)
    assert made["digest"] == load_file(out).digest
    arguments = ["traps", "eval", "--data", str(data), "--model", str(out)]
    measured = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert measured == {"model": made["digest"], "metrics": made["metrics"]}
    shown = CliRunner().invoke(app, arguments).stdout
    assert "with_trajectory" in shown
    assert "without_trajectory" in shown


def test_the_commands_say_what_is_wrong(data: Path, tmp_path: Path) -> None:
    """A bad model or target is a sentence and an exit code, and leaves no file."""
    arguments = ["traps", "eval", "--data", str(data), "--model", str(data)]
    failed = CliRunner().invoke(app, arguments)
    assert failed.exit_code == 13
    assert "not a usable file of learned traps" in failed.stderr
    target = str(tmp_path / "none" / "x.json")
    failed = CliRunner().invoke(app, ["traps", "train", "--data", str(data), "--out", target])
    assert failed.exit_code == 5
    assert "there is no folder" in failed.stderr
    assert list(tmp_path.iterdir()) == []
