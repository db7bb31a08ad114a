"""The memory server's tools: names, arguments and when to use them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agentfs import AgentFS
from fmos.runtime.kernel import Kernel
from fmos.serving.toolset import Toolset, tool
from fmos.types import Principal
from fmos_memory.model import MemoryItem, MemoryKind, SearchResult
from fmos_memory.service import MemoryService
from fmos_memory.store import MemoryStore


class MemoryTools(Toolset):
    """Write, search and get memories of an agent."""

    name = "memory"
    title = "FMOS memory"
    instructions = (
        "Long-term memory of an agent. Search it before asking the user for something they may"
        " have said before; write what will matter in a later run. Memories belong to the agent"
        " and follow its snapshots, forks and restores."
    )

    def __init__(self, kernel: Kernel, launch: Principal | None = None) -> None:
        super().__init__(kernel, launch)
        self._service = MemoryService(kernel)

    def index_branch(self, who: Principal, fs: AgentFS) -> None:
        """Let the search find the memories of an agent that was imported."""
        MemoryStore(fs).index_all()

    @tool("Write a memory")
    def memory_write(
        self,
        text: Annotated[str, Field(description="what to remember, at most 2,000,000 bytes")],
        namespace: Annotated[str, Field(description="a drawer of its own")] = "default",
        kind: Annotated[
            MemoryKind,
            Field(description="episodic: what happened; semantic: facts; procedural: how to"),
        ] = "semantic",
        tags: Annotated[list[str], Field(description="words to find it by")] = [],  # noqa: B006
        source: Annotated[str, Field(description="where it comes from")] = "",
        agent: str = "",
        session: str = "",
    ) -> MemoryItem:
        """Remember something beyond this run.

        Use it for facts, decisions, preferences and procedures that a later run should know.
        Each call stores a new memory; a fork of the agent has its own from then on.
        """
        who = self.principal(agent, session)
        return self._service.write(
            who, text, namespace=namespace, kind=kind, tags=tags, source=source
        )

    @tool("Search memories", read_only=True, idempotent=True)
    def memory_search(
        self,
        query: Annotated[str, Field(description="words of what to look for")],
        namespace: Annotated[str, Field(description="only this one; empty: all")] = "",
        limit: Annotated[int, Field(ge=1, le=100, description="at most so many hits")] = 8,
        agent: str = "",
        session: str = "",
    ) -> SearchResult:
        """Find memories by the words of a question, best match first.

        Use it at the start of a task, and before asking for something that may be known.
        """
        return self._service.search(self.principal(agent, session), query, namespace, limit)

    @tool("Get a memory", read_only=True, idempotent=True)
    def memory_get(
        self,
        id: Annotated[str, Field(description="the id that memory_search or memory_write gave")],
        agent: str = "",
        session: str = "",
    ) -> MemoryItem:
        """Return one memory in full. Use it when a search hit was cut short."""
        return self._service.get(self.principal(agent, session), id)
