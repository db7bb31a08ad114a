"""The deepagents backend: its suite runs in a second environment, which has deepagents."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Callable
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
def deepagents_python(cached_venv: Callable[..., Path]) -> Path:
    """The Python of an environment with deepagents on top of ours."""
    return cached_venv("deepagents", DEEPAGENTS, sees=sysconfig.get_path("purelib"))
