"""Memories follow the agent: fork, restore, and other processes on the same home."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from fmos.runtime.kernel import Kernel
from fmos.types import Principal
from fmos_memory.tools import MemoryTools

_WRITE = """
import sys
from fmos.runtime.kernel import Kernel
from fmos_memory.tools import MemoryTools
with Kernel.open(sys.argv[1]) as kernel:
    MemoryTools(kernel).call("memory_write", {"text": sys.argv[2], "agent": "a"})
"""


def _write(tools: MemoryTools, text: str, agent: str = "a") -> str:
    return str(tools.call("memory_write", {"text": text, "agent": agent})["id"])


def _texts(tools: MemoryTools, query: str, agent: str = "a") -> list[str]:
    found = tools.call("memory_search", {"query": query, "agent": agent})
    return sorted(hit["text"] for hit in found["hits"])


def test_fork_finds_the_memories_of_its_parent_at_once(tmp_path: Path) -> None:
    """Search and get in a fork work with no step between."""
    with Kernel.open(tmp_path) as kernel:
        tools = MemoryTools(kernel)
        memory = _write(tools, "apples are green")
        kernel.fork_agent(Principal(agent="a"), "b")
        assert _texts(tools, "apples", "b") == ["apples are green"]
        assert tools.call("memory_get", {"id": memory, "agent": "b"})["text"] == "apples are green"


def test_writes_after_a_fork_stay_on_their_side(tmp_path: Path) -> None:
    """Neither the fork nor its parent sees what the other writes afterwards."""
    with Kernel.open(tmp_path) as kernel:
        tools = MemoryTools(kernel)
        _write(tools, "apples in common")
        kernel.fork_agent(Principal(agent="a"), "b")
        _write(tools, "apples of a")
        _write(tools, "apples of b", "b")
        assert _texts(tools, "apples") == ["apples in common", "apples of a"]
        assert _texts(tools, "apples", "b") == ["apples in common", "apples of b"]


def test_restore_takes_later_memories_out_of_search(tmp_path: Path) -> None:
    """After a restore search finds the state of the snapshot, and later ones can come back."""
    with Kernel.open(tmp_path) as kernel:
        tools = MemoryTools(kernel)
        files = kernel.agent_fs(Principal(agent="a"))
        _write(tools, "early apples")
        files.snapshot("before")
        _write(tools, "late apples")
        files.snapshot("after")
        files.restore("before")
        assert _texts(tools, "apples") == ["early apples"]
        files.restore("after")
        assert _texts(tools, "apples") == ["early apples", "late apples"]


def test_merged_memories_are_found(tmp_path: Path) -> None:
    """What a fork learned is found in its parent after a merge."""
    with Kernel.open(tmp_path) as kernel:
        tools = MemoryTools(kernel)
        _write(tools, "apples in common")
        child = kernel.fork_agent(Principal(agent="a"), "b")
        _write(tools, "apples of b", "b")
        kernel.agent_fs(Principal(agent="a")).merge(child.branch_name)
        assert _texts(tools, "apples") == ["apples in common", "apples of b"]


def test_another_process_sees_the_writes(tmp_path: Path) -> None:
    """A write of a second process is found by a kernel that was open all the time."""
    with Kernel.open(tmp_path) as kernel:
        tools = MemoryTools(kernel)
        assert _texts(tools, "apples") == []
        subprocess.run(
            [sys.executable, "-c", _WRITE, str(tmp_path), "apples from afar"],
            check=True,
            timeout=60,
        )
        assert _texts(tools, "apples") == ["apples from afar"]


def test_agents_cannot_reach_the_stored_files(tmp_path: Path) -> None:
    """The files lie in the system area, which an agent's own handle does not show."""
    with Kernel.open(tmp_path) as kernel:
        memory = _write(MemoryTools(kernel), "apples")
        principal = Principal(agent="a")
        path = f"/.fmos/memory/default/{memory}.json"
        assert json.loads(kernel.agent_fs(principal).read(path))["text"] == "apples"
        assert "/.fmos" not in [each[0] for each in kernel.agent_files(principal).walk("/")]
