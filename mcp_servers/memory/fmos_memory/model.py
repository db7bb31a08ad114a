"""The memory server's records, as they are stored and as its tools return them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fmos.entered.labels import Labels
from fmos.types import Record

MemoryKind = Literal["episodic", "semantic", "procedural"]


class MemoryItem(Record):
    """One memory. `node` is the version of its file in the agent's volume."""

    id: str
    namespace: str
    kind: MemoryKind
    text: str
    tags: tuple[str, ...] = ()
    source: str = ""
    created_ns: int
    node: int | None = Field(default=None, description="immutable id of the stored version")
    labels: Labels | None = Field(
        default=None, description="of what its session had seen; null: nobody kept that"
    )
    agent: str = Field(default="", description="the key of the agent that wrote it")
    session: str = Field(default="", description="in which session")


class Hit(Record):
    """One search result; a higher score is a better match."""

    id: str
    namespace: str
    kind: MemoryKind
    text: str = Field(description="at most 4,000 characters; memory_get returns all of it")
    score: float
    source: str = ""
    tags: tuple[str, ...] = ()
    created_ns: int


class SearchResult(Record):
    """The hits of one search, best first."""

    hits: tuple[Hit, ...]
