"""`FmosSaver` under the oldest langgraph 1.x that goes with `langgraph-checkpoint` 4.x."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
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
def oldest_python(cached_venv: Callable[..., Path]) -> Path:
    """The Python of an environment with the oldest langgraph."""
    return cached_venv("langgraph", *NEEDS)
