"""The calls that `fmos check` tries on a trap table: harmless ones, and every known way out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fmos.contract.model import AgentContract
from fmos.traps.manifest import ToolDescriptor
from fmos.types import Operation, OperationKind

_BY_TOOL = (OperationKind.TOOL_CALL, OperationKind.FS_READ)
_MISSING = object()

#: Paths that lead, or might lead, to what no agent may read.
_OUTSIDE: tuple[object, ...] = (
    "/", "/.fmos", "/.fmos/memory/x.json", "/.FMOS/keys", "//.fmos//x", "/./.fmos/x",
    "/work/../.fmos/x", "/%2e%66mos/x", "/.fm*s/x", "/.fmo?/x", "\\.fmos\\x", "/.fmos\0.txt",
    " /.fmos/x", "/.fmos/x\n", "/.ｆｍｏｓ/x", ".fmos/x", "/{.fmos,x}/y",
    "~", "~/.fmos/keys/audit.pem", "~root/.ssh/id", "$HOME/.fmos/x", "${HOME}/x", "%HOME%/x",
    "file:///.fmos/x", "FILE:/etc/passwd", "https://example.com/x",
    "/proc/self/root/.fmos/x", "/proc/self/environ", "/dev/mem", "/etc/passwd", "../../etc/passwd",
    "", " ", None, 7, True, [], {}, [["/etc/passwd"]], {"path": "/etc/passwd"}, _MISSING,
)  # fmt: skip


def probes_of(
    tool: ToolDescriptor, contract: AgentContract | None, private: Sequence[str]
) -> Iterator[Operation]:
    """Yield calls of a tool, harmless ones first, that between them try every rule about it."""
    paths = [name for name, role in tool.roles.items() if role == "path"]
    others: dict[str, Any] = {name: "x" for name in tool.roles if name not in paths}
    inside = _inside(contract)
    plain = {**others, **dict.fromkeys(paths, inside)}
    for kind in _BY_TOOL:
        yield _operation(kind, tool.name, plain)
    yield _operation(OperationKind.TOOL_CALL, tool.name, {})
    for path in private:
        yield _operation(OperationKind.TOOL_CALL, tool.name, {**plain, "another": f"{path}/x"})
    for name in paths:
        for value in (*_outside(inside), *(f"{path}/keys/audit.pem" for path in private)):
            changed = {key: item for key, item in plain.items() if key != name}
            if value is not _MISSING:
                changed[name] = value
            yield _operation(OperationKind.TOOL_CALL, tool.name, changed)
            if isinstance(value, str):
                listed = {**changed, name: [inside, value]}
                yield _operation(OperationKind.TOOL_CALL, tool.name, listed)


def probes_of_kind(kind: OperationKind, names: Sequence[str]) -> Iterator[Operation]:
    """Yield operations of a kind: under a name of its own, and under every tool's name."""
    for name in (f"probe of {kind}", *names):
        yield _operation(kind, name, {})
        yield _operation(kind, name, {"path": "/work/a"})


def _outside(inside: str) -> Iterator[object]:
    yield from _OUTSIDE
    yield f"{inside}/../../../etc/passwd"
    yield f"{inside}/.."


def _inside(contract: AgentContract | None) -> str:
    """Return a path that is in the scope for reading, if one is easily found."""
    globs = contract.security.paths.read if contract else ()
    for glob in globs:
        path = "/" + glob.strip("/").replace("**", "a/b.txt").replace("*", "a").replace("?", "a")
        if contract is not None and contract.security.may_read(path):
            return path
    return "/work/a.txt"


def _operation(kind: OperationKind, name: str, arguments: dict[str, Any]) -> Operation:
    return Operation(id="probe", kind=kind, name=name, arguments=arguments)
