"""Canaries as LangChain has them: tools, a scripted model, and a governed agent over both.

Only `fmos check` uses this; the modules beside it say what is done with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from langchain.agents import create_agent
from langchain.agents.middleware.types import AgentMiddleware
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool, StructuredTool
from pydantic import BaseModel

from fmos.check.canary import Canary, CanaryCall, CanarySession
from fmos_langgraph.checkpointer import FmosSaver
from fmos_langgraph.middleware import FmosMiddleware

Turns: TypeAlias = Sequence[Sequence[CanaryCall]]

_DONE = "done"


class CanaryModel(BaseChatModel):
    """A real LangChain chat model that makes the given calls in turn, and notes that it ran.

    `script` holds the turns for each text that a user may say; `""` is for any text.
    """

    script: Mapping[str, Turns]
    ran: Callable[[], None]
    model_name: str

    @property
    def _llm_type(self) -> str:
        return "canary"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        """Return the model itself: its script needs no tools."""
        return self.bind()  # type: ignore[return-value]

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        self.ran()
        return ChatResult(generations=[ChatGeneration(message=self._answer(messages))])

    def _answer(self, messages: Sequence[BaseMessage]) -> AIMessage:
        said = next((m.text for m in reversed(messages) if isinstance(m, HumanMessage)), "")
        turns = self.script.get(said, self.script.get("", ()))
        given = sum(isinstance(message, AIMessage) for message in messages)
        return message_of(turns[given]) if given < len(turns) else AIMessage(_DONE)


def message_of(calls: Iterable[CanaryCall]) -> AIMessage:
    """Return a model's message that makes all the calls at once."""
    made = [
        {"name": call.tool, "args": call.arguments, "id": call.id, "type": "tool_call"}
        for call in calls
    ]
    return AIMessage("", tool_calls=made)


def model(
    session: CanarySession,
    turns: Turns = (),
    *,
    name: str = "",
    script: Mapping[str, Turns] | None = None,
) -> CanaryModel:
    """Return the scripted model of a session; under another `name` it is another model.

    `turns` are for whatever the user says, `script` for certain texts.
    """
    named = name or session.model_name
    return CanaryModel(
        script={"": turns, **(script or {})}, ran=lambda: session.model_ran(named), model_name=named
    )


class CanaryArguments(BaseModel):
    """What every canary takes."""

    path: str
    nonce: str


def as_tool(canary: Canary, run: Callable[..., Any] | None = None, **options: Any) -> BaseTool:
    """Return a canary as the tool that most applications have: a function in a StructuredTool.

    `run`, or a `coroutine` among the options, does something else in its place.
    """
    return StructuredTool.from_function(
        None if "coroutine" in options else run or canary.run,
        name=canary.name,
        description="A canary.",
        args_schema=CanaryArguments,
        **options,
    )


def all_tools(session: CanarySession) -> list[BaseTool]:
    """Return one tool of each role."""
    return [as_tool(canary) for canary in session.tools.values()]


def middleware(session: CanarySession, **settings: Any) -> FmosMiddleware:
    """Return the middleware under test."""
    return FmosMiddleware(session.client, session.descriptors, **settings)


def agent(
    session: CanarySession,
    turns: Turns = (),
    *,
    tools: Sequence[Any] | None = None,
    outside: Sequence[AgentMiddleware[Any, Any, Any]] = (),
    inside: Sequence[AgentMiddleware[Any, Any, Any]] = (),
    chat: BaseChatModel | None = None,
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """Return a governed agent; `outside` come before our middleware in the list, `inside` after."""
    return create_agent(
        chat or model(session, turns),
        all_tools(session) if tools is None else list(tools),
        middleware=[*outside, middleware(session, **(settings or {})), *inside],
        checkpointer=FmosSaver.from_fs(session.state),
        **options,
    )


def asked(text: str = "go") -> dict[str, Any]:
    """Return the input of a run: one message of a user."""
    return {"messages": [HumanMessage(text)]}


def thread(name: str = "t") -> Any:
    """Return the config of a thread."""
    return {"configurable": {"thread_id": name}}


def agent_of_all(session: CanarySession) -> Any:
    """Return an agent that makes a call of each class in one message."""
    return agent(session, [session.calls()])


def wait(run: Any) -> None:
    """Run a coroutine to its end."""
    asyncio.run(run)


def unmarked(session: CanarySession) -> CanaryCall:
    """Return a call of a tool that is allowed but whose canary is not let out."""
    return session.call("writes", "nothing")


async def cancel_after(run: Any, started: asyncio.Event) -> None:
    """Cancel a run once its tool or model says that it has started."""
    task = asyncio.ensure_future(run)
    begun = asyncio.ensure_future(started.wait())
    await asyncio.wait({task, begun}, return_when=asyncio.FIRST_COMPLETED, timeout=10)
    begun.cancel()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
