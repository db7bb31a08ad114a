"""The deepagents backend: its suite runs in a second environment, which has deepagents."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

DEEPAGENTS = "deepagents>=0.7.32,<0.8"
SUITE = Path(__file__).with_name("deepagents_suite.py")
ROOT = SUITE.parents[2]
EXAMPLE = ROOT / "examples" / "langgraph_deepagent.py"


def test_the_suite_passes_beside_deepagents(deepagents_python: Path):
    """The backend does what deepagents' own backends do, and more where they differ."""
    run = _run(deepagents_python, "-m", "pytest", "-p", "no:cacheprovider", str(SUITE))
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_example_runs(deepagents_python: Path):
    """The example asserts what it shows, without a model."""
    run = _run(deepagents_python, str(EXAMPLE))
    assert run.returncode == 0, run.stdout + run.stderr
    assert "notes/plan.md" in run.stdout


def test_the_example_says_what_to_install():
    """Without deepagents the example ends with the command to run, not with a traceback."""
    run = _run(Path(sys.executable), "-c", _without_deepagents(f"runpy.run_path({str(EXAMPLE)!r})"))
    assert run.returncode == 1
    assert "pip install deepagents" in run.stderr
    assert "Traceback" not in run.stderr


def test_the_import_error_says_what_to_install():
    """Without deepagents the module says which command brings it, and the package still imports."""
    run = _run(Path(sys.executable), "-c", _without_deepagents("import fmos_langgraph.deepagents"))
    assert run.returncode == 1
    assert "run `pip install deepagents`" in run.stderr


def _without_deepagents(code: str) -> str:
    return f"import runpy, sys; sys.modules['deepagents'] = None; import fmos_langgraph; {code}"


def _run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(python), *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="session")
def deepagents_python() -> Path:
    """The Python of an environment with deepagents on top of ours, made once and kept."""
    ours = sysconfig.get_paths()["purelib"]
    cache = os.environ.get("XDG_CACHE_HOME")
    root = Path(cache) / "fmos" if cache else Path(tempfile.gettempdir())
    key = hashlib.sha256(f"{ours} {DEEPAGENTS}".encode()).hexdigest()[:8]
    folder = root / f"fmos-deepagents-venv-{key}"
    root.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test workers make it one at a time
        if not (folder / "complete").exists():
            _make_environment(folder, ours)
    return folder / "bin" / "python"


def _make_environment(folder: Path, ours: str) -> None:
    """Make an environment that sees our packages, and add only what deepagents needs more."""
    _step([sys.executable, "-m", "venv", "--clear", str(folder)])
    python = str(folder / "bin" / "python")
    site = _step([python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"])
    (Path(site.strip()) / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    _step([python, "-m", "pip", "install", "--quiet", DEEPAGENTS])
    (folder / "complete").touch()


def _step(command: list[str]) -> str:
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        last = (made.stderr.strip().splitlines() or ["no reason given"])[-1]
        pytest.skip(f"pip cannot make an environment with {DEEPAGENTS}: {last}")
    return made.stdout
