"""`FmosSaver` under the oldest langgraph 1.x that goes with `langgraph-checkpoint` 4.x."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("langgraph")

from tests.adapters import oldest_langgraph

import agentfs
import fmos.config
import fmos_langgraph
from fmos_langgraph import FmosSaver

OLDEST = "1.0.6"  # 1.0.5 and older need langgraph-checkpoint 3
SCRIPT = Path(oldest_langgraph.__file__)
NEEDS = (
    f"langgraph=={OLDEST}", "langgraph-checkpoint>=4,<5", "apsw", "blake3", "pyfastcdc<0.4",
    "zstandard", "pydantic", "PyYAML", "httpx", "cryptography",
)  # fmt: skip


def test_oldest_langgraph_runs_a_graph(tmp_path: Path, oldest_python: Path) -> None:
    """Fan-out, interrupt, resume, copy and prune work there, and without `langchain`."""
    modules = (agentfs, fmos.config, fmos_langgraph)
    sources = {Path(str(each.__file__)).parents[1] for each in modules}
    volume = tmp_path / "c.afs"
    answer = subprocess.run(
        [str(oldest_python), str(SCRIPT), str(volume)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sources))},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    seen = json.loads(answer.stdout)
    assert seen.pop("langgraph") == OLDEST
    assert seen.pop("checkpoint").startswith("4.")
    said = ["a", "b", "A", "B", "yes"]
    assert seen == {
        "asked": "sure?", "said": said, "steps": 4, "copied": said, "kept": said, "left": 1,
    }  # fmt: skip
    with FmosSaver.from_path(volume) as saver:
        config = {"configurable": {"thread_id": "copy"}}
        state = oldest_langgraph.build(saver).get_state(config)  # type: ignore[arg-type]
        assert state.values["said"] == said


def test_the_middleware_is_still_a_name_of_the_package() -> None:
    """Names that are loaded late are found, listed, and others are not."""
    assert fmos_langgraph.FmosMiddleware.__name__ == "FmosMiddleware"
    with pytest.raises(AttributeError, match="nothing"):
        fmos_langgraph.nothing  # type: ignore[attr-defined]  # noqa: B018


@pytest.fixture(scope="session")
def oldest_python() -> Path:
    """The Python of an environment with the oldest langgraph, made once per machine and kept."""
    cache = os.environ.get("XDG_CACHE_HOME")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    root = Path(cache) / "fmos" if cache else Path(tempfile.gettempdir())
    folder = root / f"fmos-langgraph-{OLDEST}-venv-py{version}"
    root.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test workers make it one at a time
        python = folder / "bin" / "python"
        if not (folder / "complete").exists():
            _make_environment(folder, python)
    return python


def _make_environment(folder: Path, python: Path) -> None:
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", *NEEDS],
    ):
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            last = (made.stderr.strip().splitlines() or ["no reason given"])[-1]
            pytest.skip(f"pip cannot make an environment with {NEEDS[0]}: {last}")
    (folder / "complete").touch()
