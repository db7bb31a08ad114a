"""Agents in graphs and in tools, and graphs without `create_agent`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from langchain.agents import create_agent
from langchain_core.tools import BaseTool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.pregel import Pregel

from fmos.check.canary import CanarySession
from fmos.check.seams import Seam
from fmos_langgraph.checkpointer import FmosSaver
from fmos_langgraph.middleware import FmosMiddleware
from fmos_langgraph.seams import canaries
from fmos_langgraph.seams.canaries import (
    agent,
    agent_of_all,
    all_tools,
    as_tool,
    asked,
    message_of,
    thread,
    unmarked,
)
from fmos_langgraph.seams.declaring import declared, intercepted

_WRAP = "ToolNode(tools, wrap_tool_call=m.wrap_tool_call, awrap_tool_call=m.awrap_tool_call)"


def seams() -> Iterator[Seam]:
    """Yield the seams of this part."""
    code = FmosMiddleware.wrap_tool_call
    yield intercepted("graph.agent_as_node", code, _agent_as_node)
    yield intercepted("graph.agent_as_tool", code, _agent_as_tool)
    yield intercepted("graph.tool_node_with_wrapper", code, _tool_node_wrapped)
    yield intercepted(
        "graph.tool_node_with_wrapper_in_ainvoke", FmosMiddleware.awrap_tool_call,
        _tool_node_wrapped_async,
    )  # fmt: skip
    yield declared(
        "graph.tool_node", ToolNode, _tool_node_plain,
        "a ToolNode of a graph of one's own knows no agent middleware",
        f"build it as {_WRAP} with m = FmosMiddleware(...), or use create_agent",
    )  # fmt: skip
    yield declared(
        "graph.node", Pregel.invoke, _plain_node,
        "a node is code of the application: what it does itself is no call of a tool",
        "do effects in tools, behind create_agent or a ToolNode with our wrapper",
    )  # fmt: skip
    yield declared(
        "graph.ungoverned_agent_as_tool", create_agent, _ungoverned_agent,
        "an agent inside of a tool has its own middleware, and no other",
        "give each agent its FmosMiddleware; in deepagents each subagent as well",
    )  # fmt: skip


def _agent_as_node(session: CanarySession) -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("agent", agent_of_all(session))
    builder.add_edge(START, "agent")
    builder.add_edge("agent", END)
    graph: Any = builder.compile(checkpointer=FmosSaver.from_fs(session.state))
    graph.invoke(asked(), thread())


def _delegate(session: CanarySession, inner: Any) -> BaseTool:
    """Return a tool that has another agent do the work."""

    def run(path: str, nonce: str) -> str:
        return str(inner.invoke(asked("inner"))["messages"][-1].text)

    return as_tool(session.tools["writes"], run)


def _agent_as_tool(session: CanarySession) -> None:
    script = {"inner": [session.calls()]}
    chat = canaries.model(session, [[unmarked(session)]], script=script)
    inner = agent(session, chat=chat)
    agent(session, chat=chat, tools=[_delegate(session, inner)]).invoke(asked(), thread())


def _ungoverned_agent(session: CanarySession) -> None:
    call = session.call("forbidden", "refuse")
    inner = create_agent(canaries.model(session, [[call]]), all_tools(session))
    tools = [_delegate(session, inner)]
    agent(session, [[unmarked(session)]], tools=tools).invoke(asked(), thread())


def _tool_node(session: CanarySession, **wrappers: Any) -> Any:
    """Return a graph of one node that runs the calls of the last message."""
    builder = StateGraph(MessagesState)
    builder.add_node("tools", ToolNode(all_tools(session), **wrappers))
    builder.add_edge(START, "tools")
    return builder.compile()


def _wrappers(session: CanarySession) -> tuple[FmosMiddleware, dict[str, Any]]:
    gate = canaries.middleware(session)
    return gate, {"wrap_tool_call": gate.wrap_tool_call, "awrap_tool_call": gate.awrap_tool_call}


def _tool_node_wrapped(session: CanarySession) -> None:
    gate, wrappers = _wrappers(session)
    _tool_node(session, **wrappers).invoke({"messages": [message_of(session.calls())]})
    gate.governor.flush()


def _tool_node_wrapped_async(session: CanarySession) -> None:
    gate, wrappers = _wrappers(session)
    said = {"messages": [message_of(session.calls())]}
    asyncio.run(_tool_node(session, **wrappers).ainvoke(said))
    gate.governor.flush()


def _tool_node_plain(session: CanarySession) -> None:
    said = {"messages": [message_of([session.call("forbidden", "refuse")])]}
    _tool_node(session).invoke(said)


def _plain_node(session: CanarySession) -> None:
    call = session.call("forbidden", "refuse")

    def work(state: MessagesState) -> dict[str, Any]:
        session.tools["forbidden"].run(**call.arguments)
        return {}

    builder = StateGraph(MessagesState)
    builder.add_node("work", work)
    builder.add_edge(START, "work")
    graph: Any = builder.compile()
    graph.invoke(asked())
