"""A volume whose system area holds a known secret, an agent's handle on it, and who may look."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from agentfs import AgentFS, directories
from agentfs.paths import SYSTEM_NAME

SECRET = "heron-4711-secret"
NOTE = "/.fmos/memory/notes/m1.json"
#: Ways to write the path of the system area; each must be refused.
SPELLINGS: tuple[Any, ...] = (
    "/.fmos", "/.fmos/", "//.fmos/./memory", "/work/../.fmos", "/work/../../.fmos/memory",
    "/./.fmos//memory/notes/../notes/m1.json", NOTE, PurePosixPath(NOTE), "/missing/../.fmos/new",
)  # fmt: skip
#: Names that only look like it; they are plain names of the agent's own.
LOOKALIKES = (
    "/.FMOS", "/.Fmos/memory", "/.fmo\u017f", "/\uff0efmos", "/.fmos\u200b", "/.fmos ", "/%2efmos",
    "/.ｆｍｏｓ", "/.fmos\u0000".rstrip("\0") + ".", "/work/.fmos",
)  # fmt: skip
#: Symbolic links that an agent makes, and paths through them that lead to the secret.
LINKS = {
    "/abs": "/.fmos", "/rel": "./.fmos", "/work/up": "../.fmos", "/one": "/two", "/two": "/abs",
    "/file": NOTE, "/work/dir": "/", "/odd": "//.//work/../.fmos/./memory",
}  # fmt: skip
THROUGH = (
    "/abs", "/abs/memory/notes/m1.json", "/rel/memory", "/work/up/memory/notes/m1.json",
    "/one/memory/notes/m1.json", "/file", "/work/dir/.fmos/memory/notes/m1.json", "/odd/notes",
)  # fmt: skip


def make_volume(path: Path) -> AgentFS:
    """Make a volume with a secret in the system area of the branches `main`, `ada` and `bob`."""
    fs = AgentFS.open(path, system=True, principal="fmos")
    fs.mkdir("/work")
    fs.write("/work/plain", "plain\n")
    fs.mkdir("/.fmos/memory/notes", parents=True)
    fs.write(NOTE, SECRET)
    fs.fork("ada")
    fs.fork("bob").write("/bobs", SECRET)
    fs.on("bob").snapshot("bobs-snapshot")
    return fs


def agent_of(fs: AgentFS, branch: str = "ada") -> AgentFS:
    """The handle that an agent gets."""
    return fs.on(branch, confined=True, principal=f"default/-/{branch}/s1")


def with_links(agent: AgentFS) -> AgentFS:
    """The agent's branch with every link to the system area that it can make."""
    for path, target in LINKS.items():
        agent.symlink(target, path)
    return agent


def system_nodes(fs: AgentFS) -> dict[str, int | None]:
    """The node of the system area on each branch: any change below it gives another one."""
    found: dict[str, int | None] = {}
    for branch in fs.branches():
        with fs.on(branch.name).view_for_reading() as view:
            node = directories.lookup(view.session, directories.root(view), SYSTEM_NAME)
        found[branch.name] = None if node is None else node.id
    return found


def shown(value: Any) -> str:
    """All that a result says, with what its iterators and files give."""
    if isinstance(value, Iterator) or hasattr(value, "read"):
        return "".join(map(str, _drained(value)))
    return str(value)


def _drained(value: Any) -> list[Any]:
    if hasattr(value, "read") and not isinstance(value, AgentFS):
        with value as file:
            return [file.read()] if file.readable() else []
    return list(value) if isinstance(value, Iterator) else [value]
