"""The context server's records: what it stores of a session, and what its tools return."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

from pydantic import Field

from fmos.entered.labels import Labels
from fmos.types import Record

Role = Literal["system", "user", "assistant", "tool"]


class Session(Record):
    """The stored settings of one session."""

    session: str
    system: str
    system_tokens: int
    max_tokens: int
    threshold_bytes: int


class Message(Record):
    """One message of a composed context. Items `system` and `dropped` are not the caller's."""

    item: str
    role: Role
    text: str
    name: str = ""
    call_id: str = ""
    replaced: bool = Field(default=False, description="a stub stands in for the text")


class Item(Record):
    """One stored entry of a session. Never changed after it was written."""

    ordinal: int
    role: Role
    name: str
    call_id: str
    pinned: bool
    handle: str
    text: str | None = Field(description="the exact text; null when it is in a file of its own")
    stub: str = Field(description="what stands in for the text; empty for a short text")
    tokens_raw: int
    tokens_stub: int
    labels: Labels | None = Field(default=None, description="of a tool's output; null: not kept")

    @property
    def id(self) -> str:
        """The id that tools use for the item."""
        return f"i{self.ordinal}"

    @property
    def shown(self) -> str:
        """What the model sees while there is room."""
        return self.stub if self.text is None else self.text

    @property
    def tokens_shown(self) -> int:
        """Tokens of `shown`, with what a message costs by itself."""
        return self.tokens_stub if self.text is None else self.tokens_raw

    @property
    def tokens_least(self) -> int:
        """Tokens of the shortest form."""
        return self.tokens_stub if self.stub else self.tokens_raw

    @cached_property
    def as_shown(self) -> Message:
        """The message while there is room."""
        return self._message(self.shown, replaced=self.text is None)

    @cached_property
    def as_stub(self) -> Message:
        """The message in its shortest form."""
        return self._message(self.stub, replaced=True)

    def _message(self, text: str, *, replaced: bool) -> Message:
        return Message(
            item=self.id,
            role=self.role,
            text=text,
            name=self.name,
            call_id=self.call_id,
            replaced=replaced,
        )


class Opened(Record):
    """A session that is open."""

    session: str
    max_tokens: int
    threshold_bytes: int
    items: int = Field(description="how many items the session already has")


class Appended(Record):
    """What became of an appended text."""

    item: str
    inline: bool = Field(description="false: the text was paged out and a stub stands in for it")
    handle: str | None = Field(description="reads the paged-out text with context_read")
    text: str = Field(description="what the model shall see")
    tokens: int


class Composed(Record):
    """A context that fits its budget."""

    messages: tuple[Message, ...]
    tokens: int = Field(description="at most the budget")
    tokens_raw: int = Field(description="what all considered items would have cost in full")
    dropped_handle: str | None = Field(description="reads the items that are not shown")


class Span(Record):
    """A part of a paged-out text."""

    text: str
    offset: int
    total: int = Field(description="characters in all, of the text or of the matching lines")
    next_offset: int | None = Field(description="where to go on; null at the end")
    matches: int | None = Field(default=None, description="with a pattern: how many lines match")
