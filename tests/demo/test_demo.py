"""The demo as a whole, on real directories, through `run_demo`."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fmos.errors import FmosError
from fmos_cli.demo import run_demo

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Temporary homes go where a test can see that they are gone."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def project(folder: Path, lines: int) -> Path:
    """Make a project of one text file and return it."""
    folder.mkdir()
    (folder / "data.txt").write_text("".join(f"line {n} of plain text\n" for n in range(lines)))
    return folder


def digest(folder: Path) -> str:
    """Return what tells two states of a host folder apart."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        found.update(f"{path} {path.stat().st_mtime_ns}".encode())
        found.update(path.read_bytes() if path.is_file() else b"")
    return found.hexdigest()


def test_json_has_the_promised_figures(
    tmp_path: Path, temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One JSON object on stdout, everything shown, the host untouched, nothing left behind."""
    repo = project(tmp_path / "repo", 6_000)
    before = digest(repo)
    assert run_demo(repo, as_json=True) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["tokens_sent"] * 2 < document["tokens_raw"]
    assert document["denied"] >= 2
    assert document["asked"] >= 1
    assert document["audit_ok"] is True
    assert document["fork_ms"] > 0
    assert all(document["shown"].values()), document["shown"]
    for step in document["steps"]:
        assert {"operation", "path", "verdict", "added_ms"} <= step.keys()
        assert step["path"] in ("fast", "slow")
    assert digest(repo) == before
    assert list(temporary.iterdir()) == []


def test_the_secret_is_denied_for_what_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The planted instruction is followed, and the gate names the secret as the reason."""
    run_demo(project(tmp_path / "repo", 10), as_json=True)
    steps = json.loads(capsys.readouterr().out)["steps"]
    sent = [step for step in steps if "send_message" in step["operation"]]
    assert [step["verdict"] for step in sent] == ["deny"]
    assert "github-token" in sent[0]["reason"]


def test_timeline_names_every_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The timeline has a line for each of the demo's promises, progress is on stderr."""
    assert run_demo(project(tmp_path / "repo", 6_000)) == 0
    shown = capsys.readouterr()
    for word in (
        "volume.put", "context.paged_out", "context.paged_in", "deny", "ask", "fork.diff",
        "approval.approved", "fork.merge", "memory.recalled", "ledger.limit", "agent.fork",
        "agent.diff", "agent.restore", "audit.verify", "p50",
    ):  # fmt: skip
        assert word in shown.out, word
    assert "putting 1 files" in shown.err


def test_little_text_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty directory still gives a run, with a note on what it cannot show."""
    (tmp_path / "empty").mkdir()
    assert run_demo(tmp_path / "empty", as_json=True) == 0
    document = json.loads(capsys.readouterr().out)
    assert "little text" in document["notes"][0]
    assert document["shown"]["effect_approved"]


def test_folders_of_tools_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is not the project is left out, and the timeline says so."""
    repo = project(tmp_path / "repo", 10)
    (repo / ".git").mkdir()
    (repo / ".git" / "HEAD").write_text("x")
    (repo / "loop").symlink_to(repo)
    assert run_demo(repo) == 0
    assert "left out: 1 .git/" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_bad_directory_is_one_sentence(
    kind: str, tmp_path: Path, temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A directory that is none gives one sentence, an exit code, and leaves nothing."""
    path = tmp_path / kind
    if kind == "file":
        path.write_text("x")
    assert run_demo(path, as_json=True) != 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    assert str(path) in shown.err
    assert list(temporary.iterdir()) == []


def test_a_model_that_cannot_be_loaded_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model name without a provider's package says so."""
    assert run_demo(project(tmp_path / "repo", 10), model="nonsense") != 0
    assert "nonsense" in capsys.readouterr().err


def test_a_home_is_used_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second run in the same home takes another agent id and keeps the first one's state."""
    home, repo = tmp_path / "home", project(tmp_path / "repo", 10)
    assert run_demo(repo, as_json=True, home=home) == 0
    assert run_demo(repo, as_json=True, home=home) == 0
    assert "-b demo:governed-agent-2 ls" in capsys.readouterr().err


def test_a_home_that_is_a_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The home's own error is shown as one sentence."""
    (tmp_path / "home").write_text("x")
    code = run_demo(project(tmp_path / "repo", 10), home=tmp_path / "home")
    assert code not in (0, FmosError.exit_code)
    assert "FMOS home" in capsys.readouterr().err


def test_the_example_runs() -> None:
    """The example asserts what it shows."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "governed_agent" / "main.py")],
        capture_output=True, text=True, check=False, timeout=60, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "tool.call write_file: deny" in done.stdout
