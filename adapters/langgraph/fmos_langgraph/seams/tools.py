"""The forms that a tool may have, and the ways in which a tool comes into an agent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Annotated, Any

from langchain.agents import create_agent
from langchain.agents.middleware.types import AgentMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, InjectedToolCallId, StructuredTool
from langgraph.types import Command, interrupt
from pydantic import BaseModel, model_validator

from fmos.check.canary import Canary, CanaryCall, CanarySession, Role
from fmos.check.seams import Seam
from fmos_langgraph.middleware import FmosMiddleware
from fmos_langgraph.seams import canaries
from fmos_langgraph.seams.canaries import (
    agent,
    all_tools,
    as_tool,
    asked,
    cancel_after,
    thread,
    unmarked,
)
from fmos_langgraph.seams.declaring import declared, intercepted


def seams() -> Iterator[Seam]:
    """Yield the seams of this part."""
    sync, twin = FmosMiddleware.wrap_tool_call, FmosMiddleware.awrap_tool_call
    forms: dict[str, Callable[[Canary], Any]] = {
        "function": _function,
        "base_tool": _base_tool,
        "command": _command_tool,
        "return_direct": _return_direct,
    }
    for name, form in forms.items():
        yield intercepted(f"tool.{name}", sync, _with_form(form))
    yield intercepted("tool.sync_only_in_ainvoke", twin, _with_form(as_tool, asynchronous=True))
    yield intercepted("tool.async_only", twin, _with_form(_async_tool, asynchronous=True))
    yield intercepted("tool.raises", sync, lambda s: _raises(s, "writes"))
    yield intercepted("tool.innocuous_raises", sync, lambda s: _raises(s, "reads"))
    yield intercepted("tool.raises_in_ainvoke", twin, _raises_in_ainvoke)
    yield intercepted("tool.cancelled", twin, _tool_cancelled)
    yield intercepted("tool.added_by_middleware", sync, _dynamic_tool)
    yield intercepted("tool.added_by_middleware_inside", sync, _dynamic_tool_inside)
    yield intercepted("tool.interrupts", sync, _interrupts)
    yield intercepted("tool.swapped_by_middleware", sync, _swapped_tool)
    yield declared(
        "tool.calls_a_tool", StructuredTool.invoke, _tool_in_tool,
        "a tool that invokes another one runs it as a part of itself: only the outer has a row",
        "let the inner tool be called by an agent, or by a ToolNode with our wrapper",
    )  # fmt: skip
    yield declared(
        "tool.at_the_provider", create_agent, _provider_tool,
        "a tool given as a dict (web search, code execution) runs at the model's provider,"
        " before its answer comes back",
        "do not give such tools, or give the model's whole answer to a gate of your own",
    )  # fmt: skip
    yield declared(
        "tool.response_format", ToolStrategy, _response_format,
        "LangChain itself makes the object of `response_format=`; its validators are code that runs"
        " without a call of a tool",
        "keep effects out of the validators of answers",
    )  # fmt: skip


def _function(canary: Canary) -> Callable[..., str]:
    def run(path: str, nonce: str) -> str:
        """Let a canary out."""
        return canary.run(path, nonce)

    run.__name__ = canary.name
    return run


class _CanaryTool(BaseTool):
    """A canary as a class of its own."""

    description: str = "A canary."
    canary: Any

    def _run(self, path: str, nonce: str) -> str:
        return self.canary.run(path, nonce)


def _base_tool(canary: Canary) -> BaseTool:
    return _CanaryTool(name=canary.name, canary=canary)


def _async_tool(canary: Canary) -> BaseTool:
    async def run(path: str, nonce: str) -> str:
        await asyncio.sleep(0)
        return canary.run(path, nonce)

    return as_tool(canary, coroutine=run)


def _command_tool(canary: Canary) -> BaseTool:
    def run(
        path: str, nonce: str, tool_call_id: Annotated[str, InjectedToolCallId]
    ) -> Command[Any]:
        said = ToolMessage(canary.run(path, nonce), tool_call_id=tool_call_id, name=canary.name)
        return Command(update={"messages": [said]})

    return StructuredTool.from_function(run, name=canary.name, description="Returns a Command.")


def _return_direct(canary: Canary) -> BaseTool:
    return as_tool(canary, return_direct=True)


def _with_form(
    form: Callable[[Canary], Any], *, asynchronous: bool = False
) -> Callable[[CanarySession], None]:
    """Return a drive that makes a call of each class of tools of one form."""

    def drive(session: CanarySession) -> None:
        tools = [form(canary) for canary in session.tools.values()]
        graph = agent(session, [session.calls()], tools=tools)
        if asynchronous:
            asyncio.run(graph.ainvoke(asked(), thread()))
        else:
            graph.invoke(asked(), thread())

    return drive


def _raising(canary: Canary) -> BaseTool:
    def run(path: str, nonce: str) -> str:
        canary.run(path, nonce)
        raise ZeroDivisionError("as it is meant to")

    return as_tool(canary, run)


def _raising_agent(session: CanarySession, role: Role) -> Any:
    tools = [_raising(canary) for canary in session.tools.values()]
    return agent(session, [[session.call(role, "run")]], tools=tools)


def _raises(session: CanarySession, role: Role) -> None:
    graph = _raising_agent(session, role)
    with suppress(ZeroDivisionError):
        graph.invoke(asked(), thread())


def _raises_in_ainvoke(session: CanarySession) -> None:
    graph = _raising_agent(session, "writes")
    with suppress(ZeroDivisionError):
        asyncio.run(graph.ainvoke(asked(), thread()))


def _tool_cancelled(session: CanarySession) -> None:
    """Cancel a run while its tool works: what it did so far must be on record."""
    started = asyncio.Event()

    def endless(canary: Canary) -> BaseTool:
        async def run(path: str, nonce: str) -> str:
            canary.run(path, nonce)
            started.set()
            await asyncio.Event().wait()
            return "never"

        return as_tool(canary, coroutine=run)

    tools = [endless(canary) for canary in session.tools.values()]
    graph = agent(session, [[session.call("writes", "run")]], tools=tools)
    asyncio.run(cancel_after(graph.ainvoke(asked(), thread()), started))


class _Adds(AgentMiddleware[Any, Any, Any]):
    """Another middleware that offers tools of its own at run time, and finds them when called."""

    def __init__(self, tools: list[BaseTool]) -> None:
        super().__init__()
        self._found = {tool.name: tool for tool in tools}

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        return handler(request.override(tools=[*request.tools, *self._found.values()]))

    def wrap_tool_call(self, request: Any, handler: Any) -> Any:
        return handler(request.override(tool=self._found[request.tool_call["name"]]))


def _dynamic_tool(session: CanarySession) -> None:
    adds = _Adds(all_tools(session))
    graph = agent(session, [session.calls()], tools=[], outside=[adds])
    graph.invoke(asked(), thread())


def _dynamic_tool_inside(session: CanarySession) -> None:
    adds = _Adds(all_tools(session))
    graph = agent(session, [session.calls()], tools=[], inside=[adds])
    graph.invoke(asked(), thread())


def _interrupts(session: CanarySession) -> None:
    """Let a tool ask somebody itself, in the middle of its work: LangGraph runs it again."""
    canary = session.tools["writes"]

    def run(path: str, nonce: str) -> str:
        canary.run(path, nonce)
        return str(interrupt("how many?"))

    graph = agent(session, [[session.call("writes", "run")]], tools=[as_tool(canary, run)])
    graph.invoke(asked(), thread())
    graph.invoke(Command(resume="three"), thread())


class _Swaps(AgentMiddleware[Any, Any, Any]):
    """Another middleware that has a call of one tool run by another tool."""

    def __init__(self, other: BaseTool) -> None:
        super().__init__()
        self._other = other

    def wrap_tool_call(self, request: Any, handler: Any) -> Any:
        return handler(request.override(tool=self._other))


def _swapped_tool(session: CanarySession) -> None:
    """Let the gate judge the name of a harmless tool while the call holds a forbidden one."""
    swaps = _Swaps(as_tool(session.tools["forbidden"]))
    calls = [session.call("reads", "nothing"), session.call("writes", "nothing")]
    agent(session, [calls], outside=[swaps]).invoke(asked(), thread())


def _tool_in_tool(session: CanarySession) -> None:
    inner = session.call("forbidden", "refuse")
    forbidden = as_tool(session.tools["forbidden"])

    def run(path: str, nonce: str) -> str:
        return forbidden.invoke(inner.arguments)

    outer = as_tool(session.tools["writes"], run)
    agent(session, [[unmarked(session)]], tools=[outer]).invoke(asked(), thread())


def _provider_tool(session: CanarySession) -> None:
    call = session.call("forbidden", "refuse")
    forbidden = session.tools["forbidden"]

    class Provider(canaries.CanaryModel):
        """A model whose provider runs a tool while it answers."""

        def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
            if any(isinstance(tool, dict) and tool.get("name") == call.tool for tool in tools):
                forbidden.run(**call.arguments)
            return super().bind_tools(tools, **kwargs)

    chat = Provider(**dict(canaries.model(session)))
    search = {"type": "web_search", "name": call.tool}
    agent(session, chat=chat, tools=[search]).invoke(asked(), thread())


def _response_format(session: CanarySession) -> None:
    call = session.call("forbidden", "refuse")
    forbidden = session.tools["forbidden"]

    class Answer(BaseModel):
        """An answer whose validator has an effect."""

        path: str
        nonce: str

        @model_validator(mode="after")
        def _effect(self) -> Answer:
            forbidden.run(self.path, self.nonce)
            return self

    said = CanaryCall(call.id, "Answer", call.arguments, "refuse")
    graph = agent(session, [[said]], response_format=ToolStrategy(Answer))
    graph.invoke(asked(), thread())
