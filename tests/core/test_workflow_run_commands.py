"""`fmos workflow` at its command line, commands as actors, and the example."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from fmos.contract.parse import load_as
from fmos.contract.workflow import Workflow
from fmos.errors import ArgumentError
from fmos.runtime.kernel import Kernel
from fmos.steps.saga import BackOff
from fmos.types import Principal
from fmos.workflow.model import RunOptions
from fmos.workflow.programs import actors_of
from fmos.workflow.runner import Runner
from fmos_cli.main import app

ROOT = Path(__file__).parents[2]
ONE = """
workflow: one
steps:
  - id: s
    agent: a
    contract: { capabilities: [ fs.write ], budgets: { wall_seconds: 30 } }
    in: { x: string }
    out: { y: string }
"""
ASKS = ONE + "  - { id: ok, type: HITL_approval, in: { y } }\n"
_ECHO = """
import json, sys
asked = json.load(sys.stdin)
with open("log", "a") as log:
    print("undo" if asked["undo"] else "do", asked["idempotency_key"], file=log)
mode = asked["inputs"]["x"]
if mode == "retry" and asked["attempt"] < 3:
    sys.exit(75)
if mode == "fail":
    sys.exit("no such thing")
if mode == "die":
    import os, signal
    os.kill(os.getpid(), signal.SIGTERM)
if mode == "text":
    print("hello")
elif not asked["undo"]:
    print(json.dumps({"outputs": {"y": mode}, "usage": {"tokens": 5}, "files": {"/f": mode}}))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a workflow and a command, which is the current one."""
    (tmp_path / "one.yaml").write_text(ONE)
    (tmp_path / "asks.yaml").write_text(ASKS)
    (tmp_path / "echo.py").write_text(_ECHO)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fmos(*words: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, ["--home", "home", "workflow", *words])


def start(mode: str, *more: str, file: str = "one.yaml", run: str = "r") -> Result:
    """Start a run with the command as its actor."""
    actor = f"a={sys.executable} echo.py"
    return fmos("run", file, "--run", run, "--input", f"x={mode}", "--actor", actor, *more)


def log(folder: Path) -> list[str]:
    """What the command was run for."""
    return [line.split()[0] for line in (folder / "log").read_text().splitlines()]


def test_a_command_does_a_step(folder: Path) -> None:
    """Its outputs, files and usage are the step's."""
    said = start("42", "--json")
    assert (said.exit_code, json.loads(said.stdout)["state"]) == (0, "done")
    view = json.loads(fmos("show", "r", "--json").stdout)
    assert view["steps"][0]["outputs"] == {"y": "42"}  # text, because the port is a string
    with Kernel.open(folder / "home") as kernel:
        assert kernel.agent_files(Principal(agent="a", session="r")).read("/f") == b"42"
        own = kernel.ledger.status(view["steps"][0]["account"])
        assert [row.spent for row in own if row.resource == "tokens"][-1] == 5
    assert log(folder) == ["do"]


@pytest.mark.parametrize(
    ("mode", "code", "state", "runs"),
    [
        ("retry", 0, "done", 3),
        ("fail", 21, "failed", 1),
        ("die", 24, "waiting", 1),
        ("text", 24, "waiting", 1),
    ],
)
def test_how_a_command_ends_is_how_its_step_ends(
    folder: Path, mode: str, code: int, state: str, runs: int
) -> None:
    """75 is tried again, another code has failed, and a signal or nonsense is in doubt."""
    said = start(mode)
    assert (said.exit_code, said.stdout.split()[2]) == (code, state)
    assert len(log(folder)) == runs
    resumed = fmos("resume", "r")
    assert (resumed.exit_code, len(log(folder))) == (code, runs)


def test_a_cancelled_run_is_undone_by_its_command(folder: Path) -> None:
    """The command that undoes is told the same key's outputs; the run cannot be answered then."""
    undo = f"a={sys.executable} echo.py"
    assert start("plain", "--undo", undo, file="asks.yaml").exit_code == 24
    said = fmos("cancel", "r", "--reason", "not needed")
    assert (said.exit_code, said.stdout.split()[2]) == (0, "cancelled")
    assert log(folder) == ["do", "undo"]
    assert "undone" in fmos("show", "r").stdout
    assert fmos("cancel", "r").exit_code != 0


def test_an_answer_needs_a_person_and_one_answer(folder: Path) -> None:
    """Without a terminal it takes --yes; two answers, and a step that asks nothing, are errors."""
    start("plain", file="asks.yaml")
    refused = fmos("answer", "r", "ok", "--approve")
    assert "needs a person at a terminal" in refused.output
    assert "is one of --approve" in fmos("answer", "r", "ok", "--approve", "--deny").output
    assert "asks nothing" in fmos("answer", "r", "s", "--approve", "--yes").output
    assert "there is no run 'q'" in fmos("answer", "q", "ok", "--approve", "--yes").output
    assert fmos("answer", "r", "ok", "--deny", "--comment", "no", "--yes").exit_code == 0
    ended = fmos("resume", "r")
    assert ended.exit_code == 21
    assert "denied by" in ended.stdout


def test_nobody_is_two_people_by_a_variable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --four-eyes who started the run cannot approve it under another name of theirs."""
    start("plain", "--four-eyes", file="asks.yaml")
    for name in ("USER", "LOGNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    refused = fmos("answer", "r", "ok", "--approve", "--yes")
    assert (refused.exit_code, "cannot approve its steps" in refused.output) == (11, True)


def test_wrong_options_name_the_way_out(folder: Path) -> None:
    """Nothing begins, and the sentence says what to write instead."""
    chosen: Sequence[tuple[Sequence[str], str]] = (
        (("--on-timeout", "shout"), "neither deny nor escalate:NAME"),
        (("--effect", "a=maybe"), "none of volume, outside, idempotent"),
    )
    for words, hint in chosen:
        said = start("plain", *words)
        assert said.exit_code == 2, words
        assert hint in said.output
    wrong: Sequence[tuple[Sequence[str], str]] = (
        (("--timeout", "soon"), "write one such as 30s, 5m, 1h or 2d"),
        (("--on-timeout", "escalate:"), "escalate:NAME"),
        (("--actor", "a=true", "--actor", "a=false"), "names 'a' twice"),
        (("--effect", "a"), "is not NAME=VALUE"),
        (("--effect", "b=volume"), "which has no actor"),
        (("--undo", "a=nowhere:f"), "cannot be imported"),
        (("--undo", "a='"), "is not a command"),
        (("--inputs", "none.json"), "cannot read 'none.json'"),
    )
    for words, hint in wrong:
        said = start("plain", *words)
        assert said.exit_code == 5, words
        assert hint in said.output
    assert "no file 'two'" in fmos("run", "two").output
    assert fmos("run", "no/two.yaml").exit_code == 5
    assert fmos("run", "/dev/null").exit_code == 4
    assert fmos("list").stdout == "no runs\n"


def test_a_command_that_is_not_there_has_not_begun(kernel: Kernel, tmp_path: Path) -> None:
    """It fails the step; a name without its module is an error before that."""
    options = RunOptions(actors={"a": "/nowhere/program"}, folder=str(tmp_path))
    runner = Runner(kernel, actors_of(options), back_off=BackOff(1))
    ended = runner.start(load_as(Workflow, ONE), {"x": "1"}, options=options)
    assert ended.state == "failed"
    assert "cannot be started" in ended.reason
    with pytest.raises(ArgumentError, match="neither function nor Actor"):
        actors_of(RunOptions(actors={"a": "os:sep"}))


def test_wait_goes_on_when_somebody_answers(folder: Path) -> None:
    """The command stays until the question is answered elsewhere."""
    program = [sys.executable, "-m", "fmos_cli", "--home", "home", "workflow", "run", "asks.yaml"]
    words = ["--run", "r", "--input", "x=p", "--actor", f"a={sys.executable} echo.py", "--wait"]
    waiting = subprocess.Popen([*program, *words], stderr=subprocess.PIPE, text=True)
    assert waiting.stderr is not None
    for line in waiting.stderr:
        if line.startswith("waits"):
            break
    assert fmos("answer", "r", "ok", "--approve", "--yes").exit_code == 0
    waiting.communicate(timeout=20)
    assert waiting.returncode == 0


def test_the_example_runs() -> None:
    """It asserts what it shows."""
    program = str(ROOT / "examples" / "workflow_killed.py")
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=60, check=False,
        env=dict(os.environ),
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "resumed: done, sent once", done.stderr
