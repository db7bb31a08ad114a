"""A grant of authority to content: that the targets of a call may come out of one named source."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fmos.contract.globs import matches_name
from fmos.contract.model import Names
from fmos.traps.manifest import ArgumentRole
from fmos.types import Principal, Record


class Source(Record):
    """Where the text comes from: a tool's output, one field of it, or exactly one content."""

    tool: str = Field(default="", max_length=256)
    field: str = Field(default="", max_length=512, description="a JSON pointer, such as /body")
    digest: str = Field(
        default="", pattern="^([0-9a-f]{64})?$", description="SHA-256 of the whole text, in hex"
    )

    @property
    def said(self) -> str:
        """The source in words."""
        where = f"the field {self.field} of " if self.field else ""
        which = f"the output of {self.tool}" if self.tool else "the text"
        exactly = f" with the digest {self.digest[:12]}" if self.digest else ""
        return f"{where}{which}{exactly}"


class Grant(Record):
    """For one purpose: these tools, these kinds of targets, so often, until then."""

    id: str
    principal: Principal = Field(description="tenant, application and agent; session: only that")
    source: Source
    tools: Names = Field(min_length=1, description="names and globs of what may be called for it")
    targets: tuple[ArgumentRole, ...] = Field(default=(), description="empty: any kind of target")
    uses: Annotated[int, Field(ge=1, le=1000)] = 1
    used_by: tuple[str, ...] = Field(default=(), description="operations, each counted once")
    issued_ns: int
    expires_ns: int
    boot: str = ""
    up_until_ns: int = 0
    person: str = ""
    state: Literal["open", "ended"] = "open"

    @property
    def left(self) -> int:
        """How often it may be used still."""
        return self.uses - len(self.used_by) if self.state == "open" else 0

    def is_for(self, tool: str, role: str) -> bool:
        """Return whether an argument of this kind, of a call of this tool, may come from there."""
        return matches_name(self.tools, tool) and (not self.targets or role in self.targets)
