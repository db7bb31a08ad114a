"""The context server's tools: names, arguments and when to use them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fmos.runtime.kernel import Kernel
from fmos.serving.toolset import Toolset, tool
from fmos.types import Principal
from fmos_context.model import Appended, Composed, Opened, Role, Span
from fmos_context.service import ContextService


class ContextTools(Toolset):
    """Keep a session's context within its budget without losing anything of it."""

    name = "context-policy"
    title = "FMOS context policy"
    instructions = (
        "Keeps a session's context within a token budget. Long texts are paged out: a stub with a"
        " handle stands in for them, and context_read returns any part of them, exactly."
    )

    def __init__(self, kernel: Kernel, launch: Principal | None = None) -> None:
        super().__init__(kernel, launch)
        self._service = ContextService(kernel)

    @tool("Open a context session", idempotent=True)
    def context_open(
        self,
        system: Annotated[str, Field(description="the system prompt, always shown")] = "",
        max_tokens: Annotated[
            int, Field(ge=1, description="the budget of a composed context")
        ] = 16_000,
        threshold_bytes: Annotated[
            int, Field(ge=1, description="longer texts are paged out; at most 20480 counts")
        ] = 8_192,
        agent: str = "",
        session: Annotated[str, Field(description="empty: a new one")] = "",
    ) -> Opened:
        """Open a session, or change the settings of one that is there; its items stay.

        Use it once before context_append.
        """
        return self._service.open(
            self.principal(agent, session),
            system=system,
            max_tokens=max_tokens,
            threshold_bytes=threshold_bytes,
        )

    @tool("Append to a context")
    def context_append(
        self,
        role: Role,
        text: str,
        name: Annotated[str, Field(description="of the tool or the speaker")] = "",
        call_id: Annotated[
            str, Field(description="pairs a call with its result; several joined by commas")
        ] = "",
        pinned: Annotated[bool, Field(description="always show it whole")] = False,
        agent: str = "",
        session: str = "",
    ) -> Appended:
        """Add a message or a tool's output to a session and get what the model shall see of it.

        Use it for every message, in order; a long text comes back as a stub with a handle.
        """
        who = self.principal(agent, session)
        return self._service.append(who, text, role=role, name=name, call_id=call_id, pinned=pinned)

    @tool("Compose a context")
    def context_compose(
        self,
        max_tokens: Annotated[int, Field(ge=0, description="0: the session's budget")] = 0,
        items: Annotated[list[str], Field(description="consider only these; empty: all")] = [],  # noqa: B006
        agent: str = "",
        session: str = "",
    ) -> Composed:
        """Return the messages to send to the model, never more than the budget.

        Use it before each model call. Pinned items and the last user message always stay.
        """
        return self._service.compose(self.principal(agent, session), max_tokens, items)

    @tool("Read a paged-out text", read_only=True, idempotent=True)
    def context_read(
        self,
        handle: Annotated[str, Field(description="from a stub, or a dropped_handle")],
        offset: Annotated[int, Field(ge=0, description="first character")] = 0,
        limit: Annotated[
            int, Field(ge=1, description="characters; a reply never has more than 16 KB")
        ] = 4_000,
        pattern: Annotated[
            str, Field(max_length=1_000, description="regex: only matching lines, numbered")
        ] = "",
        agent: str = "",
        session: str = "",
    ) -> Span:
        """Return a part of a text that was paged out, exactly as it was.

        Use a pattern to find the place, then offset and limit to read around it.
        """
        return self._service.read(
            self.principal(agent, session), handle, offset=offset, limit=limit, pattern=pattern
        )
