"""Other middleware before and after ours in the list."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from langchain.agents.middleware import (
    ToolRetryMiddleware,
)
from langchain.agents.middleware.types import AgentMiddleware, ToolCallRequest
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool

from fmos.check.canary import Canary, CanaryCall, CanarySession
from fmos.check.seams import Seam
from fmos_langgraph.middleware import FmosMiddleware
from fmos_langgraph.seams.canaries import (
    agent,
    as_tool,
    asked,
    thread,
)
from fmos_langgraph.seams.declaring import LAST, declared, intercepted


def seams() -> Iterator[Seam]:
    """Yield the seams of this part."""
    code = FmosMiddleware.wrap_tool_call
    yield intercepted("middleware.outside_answers", code, _outside_answers)
    yield intercepted("middleware.outside_changes_arguments", code, _outside_changes)
    yield intercepted("middleware.outside_retries", code, _outside_retries)
    yield declared(
        "middleware.outside_runs_the_tool", AgentMiddleware.wrap_tool_call, _outside_runs,
        "a middleware that invokes `request.tool` itself, in place of its handler, runs it without"
        " anybody further inside",
        "let middleware call its handler only",
    )  # fmt: skip
    yield declared(
        "middleware.inside_changes_arguments", AgentMiddleware.wrap_tool_call, _inside_changes,
        "a middleware after ours in the list changes the call once it has been judged", LAST,
    )  # fmt: skip
    yield declared(
        "middleware.inside_retries", ToolRetryMiddleware, _inside_retries,
        "a middleware after ours in the list runs a call again that was judged once", LAST,
    )  # fmt: skip


class _Wraps(AgentMiddleware[Any, Any, Any]):
    """Another middleware that does with a tool call what `does` says."""

    def __init__(self, does: Callable[[ToolCallRequest, Any], Any]) -> None:
        super().__init__()
        self._does = does

    def wrap_tool_call(self, request: Any, handler: Any) -> Any:
        return self._does(request, handler)


def _outside_answers(session: CanarySession) -> None:
    def answer(request: ToolCallRequest, handler: Any) -> ToolMessage:
        return ToolMessage("from a cache", tool_call_id=request.tool_call["id"] or "")

    call = session.call("writes", "nothing")
    agent(session, [[call]], outside=[_Wraps(answer)]).invoke(asked(), thread())


def _changing(session: CanarySession) -> tuple[CanaryCall, _Wraps]:
    """Return a harmless call, and a middleware that makes one outside of the scope of it."""
    other = session.call("reads", "refuse", in_scope=False)

    def change(request: ToolCallRequest, handler: Any) -> Any:
        call = {**request.tool_call, "args": other.arguments}
        return handler(request.override(tool_call=call))  # type: ignore[arg-type]

    return session.call("reads", "nothing"), _Wraps(change)


def _outside_changes(session: CanarySession) -> None:
    call, changes = _changing(session)
    agent(session, [[call]], outside=[changes]).invoke(asked(), thread())


def _inside_changes(session: CanarySession) -> None:
    call, changes = _changing(session)
    agent(session, [[call]], inside=[changes]).invoke(asked(), thread())


def _failing_once(canary: Canary) -> BaseTool:
    tries: list[str] = []

    def run(path: str, nonce: str) -> str:
        canary.run(path, nonce)
        tries.append(nonce)
        if len(tries) == 1:
            raise ConnectionError("not the first time")
        return "ran"

    return as_tool(canary, run)


def _retrying(session: CanarySession) -> tuple[list[BaseTool], ToolRetryMiddleware]:
    retry = ToolRetryMiddleware(max_retries=2, initial_delay=0, backoff_factor=0, jitter=False)
    return [_failing_once(session.tools["writes"])], retry


def _outside_retries(session: CanarySession) -> None:
    tools, retry = _retrying(session)
    calls = [[session.call("writes", "run")]]
    agent(session, calls, tools=tools, outside=[retry]).invoke(asked(), thread())


def _inside_retries(session: CanarySession) -> None:
    tools, retry = _retrying(session)
    calls = [[session.call("writes", "run")]]
    agent(session, calls, tools=tools, inside=[retry]).invoke(asked(), thread())


def _outside_runs(session: CanarySession) -> None:
    def run(request: ToolCallRequest, handler: Any) -> ToolMessage:
        tool: Any = request.tool
        said = tool.invoke(request.tool_call["args"])
        return ToolMessage(str(said), tool_call_id=request.tool_call["id"] or "")

    call = session.call("forbidden", "refuse")
    agent(session, [[call]], outside=[_Wraps(run)]).invoke(asked(), thread())
