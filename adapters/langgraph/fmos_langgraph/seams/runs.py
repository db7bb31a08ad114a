"""The ways to run an agent, each with all classes of calls, parallel in one message."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from fmos.check.canary import CanarySession
from fmos.check.seams import Seam
from fmos_langgraph.middleware import FmosMiddleware
from fmos_langgraph.seams import canaries
from fmos_langgraph.seams.canaries import (
    agent,
    agent_of_all,
    asked,
    message_of,
    thread,
    wait,
)
from fmos_langgraph.seams.declaring import intercepted


def seams() -> Iterator[Seam]:
    """Yield the seams of this part."""
    sync, twin = FmosMiddleware.wrap_tool_call, FmosMiddleware.awrap_tool_call
    yield intercepted("agent.invoke", sync, lambda s: agent_of_all(s).invoke(asked(), thread()))
    yield intercepted(
        "agent.ainvoke", twin, lambda s: wait(agent_of_all(s).ainvoke(asked(), thread()))
    )
    yield intercepted(
        "agent.stream", sync, lambda s: _drain(agent_of_all(s).stream(asked(), thread()))
    )
    yield intercepted(
        "agent.astream", twin, lambda s: _adrain(agent_of_all(s).astream(asked(), thread()))
    )
    yield intercepted("agent.astream_events", twin, _astream_events)
    yield intercepted("agent.batch", sync, _batch)
    yield intercepted("agent.abatch", twin, _abatch)
    yield intercepted("agent.update_state", sync, _update_state)
    yield intercepted("agent.replay", sync, _replay)


def _drain(run: Any) -> None:
    for _ in run:
        pass


def _adrain(run: Any) -> None:
    async def drain() -> None:
        async for _ in run:
            pass

    asyncio.run(drain())


def _astream_events(session: CanarySession) -> None:
    _adrain(agent_of_all(session).astream_events(asked(), thread(), version="v2"))


def _two(session: CanarySession) -> tuple[Any, list[Any], list[Any]]:
    """Return an agent that does other calls for each of two inputs, and the inputs of a batch."""
    script = {"one": [session.calls()], "two": [session.calls()]}
    both = agent(session, chat=canaries.model(session, script=script))
    return both, [asked("one"), asked("two")], [thread("one"), thread("two")]


def _batch(session: CanarySession) -> None:
    both, inputs, configs = _two(session)
    both.batch(inputs, configs)


def _abatch(session: CanarySession) -> None:
    both, inputs, configs = _two(session)
    asyncio.run(both.abatch(inputs, configs))


def _update_state(session: CanarySession) -> None:
    """Put a model's message into the thread by hand and let the graph go on from there."""
    graph = agent(session)
    graph.invoke(asked(), thread())
    calls = message_of(session.calls())
    graph.update_state(thread(), {"messages": [calls]}, as_node="model")
    graph.invoke(None, thread())


def _replay(session: CanarySession) -> None:
    """Go back to before the tools ran and let them run once more."""
    graph = agent_of_all(session)
    graph.invoke(asked(), thread())
    before = next(each for each in graph.get_state_history(thread()) if "tools" in each.next)
    graph.invoke(None, before.config)
