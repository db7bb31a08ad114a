"""When an operation is sensitive by nature, whatever a trap table says of it (docs/check.md).

Written apart from the trap table on purpose, down to how a path glob is matched: two ways to the
same answer are worth comparing, a copy is not.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from fmos.contract.model import AgentContract
from fmos.redaction import texts_in
from fmos.traps.manifest import ToolDescriptor
from fmos.types import Operation, OperationKind

#: What makes every operation of a kind sensitive. Kinds that are not here depend on the call.
BY_NATURE = {
    OperationKind.MODEL_GENERATE: "it spends tokens and money",
    OperationKind.MEMORY_READ: "what it may see depends on the agent's privilege",
    OperationKind.MEMORY_WRITE: "it changes what the agent remembers and spends memory writes",
    OperationKind.CONTEXT_COMPOSE: "it reads the system area of the branch",
    OperationKind.CHECKPOINT_WRITE: "it changes the system area of the branch",
    OperationKind.FS_WRITE: "it changes files",
    OperationKind.MESSAGE_SEND: "it sends data out",
    OperationKind.SKILL_LOAD: "it changes what the agent can do",
}

#: Ways to every file of a machine or of a branch, whatever a scope says.
_SYSTEM = ("/.fmos", "/proc", "/dev")
_UNREADABLE = ("\\", "$", "*", "?", "[", "{", "\0")
_SENDS = {"command": "a command", "url": "an address", "recipient": "a recipient", "body": "a text"}


@dataclass(frozen=True)
class Nature:
    """What is known about an agent when its operations are judged.

    Args:
        contract: The effective contract; None where there is none.
        tools: Every descriptor that is known, also several of one name.
        private: Absolute host paths that are never the agent's, such as the FMOS home.
        metered: Calls, or the time they take, are limited on some account that pays for them.
    """

    contract: AgentContract | None
    tools: Sequence[ToolDescriptor] = ()
    private: Sequence[str] = ()
    metered: bool = False

    def why_sensitive(self, operation: Operation) -> str:
        """Return why an operation is sensitive, or an empty text if it is not."""
        if operation.kind in BY_NATURE:
            return BY_NATURE[operation.kind]
        contract = self.contract
        if contract is None:
            return "there is no contract"
        same = [tool for tool in self.tools if tool.name == operation.name]
        if not same:
            return "nothing says what the tool does"
        if any(tool != same[0] for tool in same):
            return "two descriptors of the name differ"
        return self._of_tool(contract, same[0], operation.kind) or self._of_call(
            contract, same[0], operation
        )

    def _of_tool(self, contract: AgentContract, tool: ToolDescriptor, kind: OperationKind) -> str:
        """Return what makes every call of a tool sensitive."""
        if tool.effect != "read":
            return f"its effect is {tool.effect!r}"
        if self.metered:
            return "it spends of a limit of calls or of time"
        names = {tool.name, tool.capability}
        denied = {*names, kind.value} & set(contract.security.deny)
        if not names & set(contract.capabilities) or denied:
            return "the contract does not grant it, so it must be refused"
        if {*names, kind.value} & set(contract.security.consent_for):
            return "the contract wants a person's consent"
        for name, role in tool.roles.items():
            if role != "path":
                return f"its argument {name!r} is {_SENDS[role]}, which goes out"
        if tool.capability.startswith("fs.") and "path" not in tool.roles.values():
            return "it reads files and does not say which argument is the path"
        return ""

    def _of_call(self, contract: AgentContract, tool: ToolDescriptor, operation: Operation) -> str:
        """Return what makes this call of a tool that only reads sensitive."""
        paths = {name for name, role in tool.roles.items() if role == "path"}
        for name in sorted(paths):
            why = self._of_path(contract, operation.arguments.get(name))
            if why:
                return f"its argument {name!r} {why}"
        for name, value in operation.arguments.items():
            if name not in paths and self._names_private(value):
                return f"its argument {name!r} names a private path"
        return ""

    def _of_path(self, contract: AgentContract, value: object) -> str:
        if isinstance(value, list | tuple):
            if not value:
                return "is empty"
            flat = (item if isinstance(item, str) else None for item in value)
            return next((why for item in flat if (why := self._of_path(contract, item))), "")
        if not isinstance(value, str) or not value.strip():
            return "is no path"
        if value.startswith("~") or "://" in value or value.lower().startswith("file:"):
            return "is no plain path"
        if ".." in value.replace("\\", "/").split("/"):
            return "goes up, and a link may lead elsewhere from there"
        if any(sign in value for sign in _UNREADABLE):
            return "may be read in more than one way"
        for path in _readings(value):
            if self._is_private(path):
                return f"reaches {path!r}"
            if not _in_scope(contract, path):
                return f"is out of the scope for reading ({path!r})"
        return ""

    def _is_private(self, path: str) -> bool:
        folded = path.casefold()
        for base in (*_SYSTEM, *self.private):
            below = base.casefold().rstrip("/")
            if folded == below or folded.startswith(below + "/"):
                return True
        # A read of a folder above one of these may go down into it.
        above = ("/.fmos", *self.private)
        return any(base.casefold().startswith(folded.rstrip("/") + "/") for base in above)

    def _names_private(self, value: Any) -> bool:
        texts = [text.casefold() for text in texts_in(value)]
        bases = ["/.fmos", *(path.casefold() for path in self.private)]
        return any(base in text for text in texts for base in bases)


def _readings(text: str) -> Iterator[str]:
    """Yield every absolute path that a tool might take a text for."""
    for said in {text, text.strip(), unquote(text), unicodedata.normalize("NFKC", text)}:
        parts = [part for part in said.split("/") if part not in ("", ".")]
        yield "/" + "/".join(parts)


def _in_scope(contract: AgentContract, path: str) -> bool:
    return all(any_covers(globs, path) for globs in contract.security.read_scopes())


def any_covers(globs: Iterable[str], path: str) -> bool:
    """Return whether one of the globs covers a path: `*` and `?` within a name, `**` across."""
    return any(_covers("/" + "/".join(_parts(glob)), path) for glob in globs)


def _parts(glob: str) -> list[str]:
    found: list[str] = []
    for part in glob.split("/"):
        if part == "..":
            found = found[:-1]
        elif part not in ("", "."):
            found.append(part)
    return found


@functools.lru_cache(maxsize=8192)
def _covers(glob: str, path: str) -> bool:
    """Match from the left, one sign of the glob at a time."""
    if not glob:
        return not path
    if glob == "/**":
        return not path or path.startswith("/")
    if glob.startswith("/**/"):
        return path.startswith("/") and any(
            _covers(glob[4:], path[at + 1 :]) for at, sign in enumerate(path) if sign == "/"
        )
    if glob.startswith("**"):
        return any(_covers(glob[2:], path[at:]) for at in range(len(path) + 1))
    if glob[0] == "*":
        name = len(path.partition("/")[0])
        return any(_covers(glob[1:], path[at:]) for at in range(name + 1))
    if not path:
        return False
    same = path[0] != "/" if glob[0] == "?" else path[0] == glob[0]
    return same and _covers(glob[1:], path[1:])
