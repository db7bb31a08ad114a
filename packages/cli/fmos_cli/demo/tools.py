"""The demo agent's tools: real ones, on the agent's branch of the volume.

Owns what each tool does and how it is described to the trap table. Whether a call may run is
decided by the trust gate before any of this is reached.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from langchain_core.tools import BaseTool, StructuredTool, ToolException

from agentfs import AgentFS
from agentfs.errors import AgentFSError
from fmos.client import Client
from fmos.effects import TRIAL_MARK, Sandbox, Trial
from fmos.errors import FmosError
from fmos.traps.manifest import ToolDescriptor
from fmos.types import Principal

PROJECT = "/project"
OUTBOX = "/outbox/messages.jsonl"
_GREP_BYTES = 256_000
_READ_BYTES = 1_000_000

DESCRIPTORS: tuple[ToolDescriptor, ...] = (
    ToolDescriptor(
        name="list_files", capability="fs.read", effect="read", roles={"path": "path"},
        description="List one folder.",
    ),
    ToolDescriptor(
        name="read_file", capability="fs.read", effect="read", roles={"path": "path"},
        description="Read a file.",
    ),
    ToolDescriptor(
        name="grep", capability="fs.read", effect="read", roles={"path": "path"},
        description="Search files for a regular expression.",
    ),
    ToolDescriptor(
        name="write_file", capability="fs.write", effect="write",
        roles={"path": "path", "content": "body"},
        description="Write a file.",
    ),
    ToolDescriptor(
        name="run_command", capability="process.run", effect="execute",
        roles={"command": "command"},
        description="Run a shell command in the project folder.",
    ),
    ToolDescriptor(
        name="send_message", capability="message.send", effect="send",
        roles={"to": "recipient", "body": "body"},
        description="Send a message.",
    ),
    ToolDescriptor(
        name="memory_write", capability="memory.write", effect="write", roles={"text": "body"},
        description="Remember a fact.",
    ),
    ToolDescriptor(
        name="memory_search", capability="memory.read", effect="read",
        description="Search what is remembered.",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Desk:
    """What the tools of one session work on."""

    files: AgentFS
    client: Client
    principal: Principal
    sandbox: Sandbox

    def list_files(self, path: str = PROJECT) -> str:
        """List the files and folders in a folder; folders end with a slash."""
        names = []
        for name in sorted(self.files.listdir(path)):
            is_folder = self.files.stat(posixpath.join(path, name)).is_dir
            names.append(f"{name}/" if is_folder else name)
        return "\n".join(names) or "(empty)"

    def read_file(self, path: str) -> str:
        """Read a text file."""
        data = self.files.read(path)
        text = data[:_READ_BYTES].decode("utf-8", "replace")
        return text if len(data) <= _READ_BYTES else f"{text}\n(cut at {_READ_BYTES} bytes)"

    def grep(self, pattern: str, path: str = PROJECT) -> str:
        """Print every line that matches a regular expression, as file:line:text."""
        lines: list[str] = []
        size = 0
        for match in self.files.grep(pattern, path):
            line = f"{match.path}:{match.line}:{match.text}"
            lines.append(line[: _GREP_BYTES - size])
            size += len(line) + 1
            if size >= _GREP_BYTES:
                lines.append(f"(stopped after {_GREP_BYTES} bytes)")
                break
        return "\n".join(lines) or "(no match)"

    def write_file(self, path: str, content: str) -> str:
        """Write a text file; folders on the way are made."""
        self.files.mkdir(posixpath.dirname(path) or "/", parents=True, exist_ok=True)
        data = content.encode()
        self.files.write(path, data)
        return f"wrote {len(data)} bytes to {path}"

    def run_command(self, command: str) -> str:
        """Run a shell command in the project folder and print what it printed."""
        if TRIAL_MARK in str(self.files.branch):  # somebody looks at this fork before it counts
            return self._said(self.files, command)
        trial = Trial.begin(self.files)
        try:
            said = self._said(trial.files, command)
            trial.merge()
        except BaseException:
            trial.discard()
            raise
        return said

    def _said(self, files: AgentFS, command: str) -> str:
        done = self.sandbox.run(files, command, PROJECT)
        return f"exit code {done.exit_code}\n{done.output}".rstrip()

    def send_message(self, to: str, body: str) -> str:
        """Send a message to an address."""
        line = json.dumps({"to": to, "body": body, "from": self.principal.agent})
        self.files.mkdir(posixpath.dirname(OUTBOX), parents=True, exist_ok=True)
        self.files.append(OUTBOX, line.encode() + b"\n")
        return f"sent to {to}"

    def memory_write(self, text: str, tags: Sequence[str] = ()) -> str:
        """Remember a fact for later sessions."""
        arguments = {"text": text, "tags": list(tags), "source": "agent", **self._who()}
        return f"remembered as {self.client.call('memory_write', arguments)['id']}"

    def memory_search(self, query: str) -> str:
        """Search what was remembered in this and earlier sessions."""
        arguments = {"query": query, "agent": self.principal.agent}
        hits = self.client.call("memory_search", arguments)["hits"]
        return "\n".join(f"- {hit['text']}" for hit in hits) or "(nothing remembered)"

    def _who(self) -> dict[str, str]:
        return {"agent": self.principal.agent, "session": self.principal.session}


def make_tools(desk: Desk) -> list[BaseTool]:
    """Return the desk's methods as LangChain tools, in the order of their descriptors."""
    return [_as_tool(getattr(desk, descriptor.name)) for descriptor in DESCRIPTORS]


def tools_on_fork(desk: Desk, fork: AgentFS) -> list[BaseTool]:
    """Return the tools whose whole effect is on the files, over those of a fork."""
    there = dataclasses.replace(desk, files=fork)
    return [_as_tool(there.write_file), _as_tool(there.run_command)]


def _as_tool(method: Callable[..., str]) -> BaseTool:
    """Wrap a method so that a failure is text for the model, not the end of the run."""

    @functools.wraps(method)
    def run(*args: object, **kwargs: object) -> str:
        try:
            return method(*args, **kwargs)
        except (AgentFSError, FmosError, OSError) as error:
            raise ToolException(f"error: {error}") from error

    return StructuredTool.from_function(
        func=run, name=method.__name__, description=method.__doc__, handle_tool_error=True
    )
