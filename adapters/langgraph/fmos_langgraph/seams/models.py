"""The ways to ask a model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from langchain.agents.middleware import (
    ModelFallbackMiddleware,
    SummarizationMiddleware,
)
from langchain_core.messages import HumanMessage

from fmos.check.canary import CanarySession
from fmos.check.seams import Seam
from fmos_langgraph.middleware import FmosMiddleware
from fmos_langgraph.seams import canaries
from fmos_langgraph.seams.canaries import (
    agent,
    as_tool,
    asked,
    cancel_after,
    thread,
    unmarked,
    wait,
)
from fmos_langgraph.seams.declaring import LAST, MODEL, declared, intercepted


def seams() -> Iterator[Seam]:
    """Yield the seams of this part."""
    sync, twin = FmosMiddleware.wrap_model_call, FmosMiddleware.awrap_model_call
    yield intercepted("model.generate", sync, lambda s: agent(s).invoke(asked(), thread()), MODEL)
    yield intercepted(
        "model.generate_in_ainvoke", twin,
        lambda s: wait(agent(s).ainvoke(asked(), thread())), MODEL,
    )  # fmt: skip
    yield intercepted("model.raises", sync, _model_raises, MODEL)
    yield intercepted("model.cancelled", twin, _model_cancelled, MODEL)
    yield intercepted("model.fallback_outside", sync, lambda s: _fallback(s, outside=True), MODEL)
    yield declared(
        "model.fallback_inside", ModelFallbackMiddleware, lambda s: _fallback(s, outside=False),
        "a middleware after ours in the list asks another model than the one that was admitted",
        LAST, MODEL,
    )  # fmt: skip
    yield declared(
        "model.inside_a_tool", canaries.CanaryModel.invoke, _model_in_tool,
        "a model that a tool or a node asks by itself is not asked by the agent",
        "ask it in an agent of its own with FmosMiddleware, or admit and settle it with a Governor",
        MODEL,
    )  # fmt: skip
    yield declared(
        "model.asked_by_middleware", SummarizationMiddleware.before_model, _summarised,
        "stock middleware (summaries, tool selection, emulation) asks its model directly",
        "leave it out: FMOS composes the context; or give it a model that a Governor admits",
        MODEL,
    )  # fmt: skip


class _Broken(canaries.CanaryModel):
    """A model that fails."""

    def _generate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Any:
        self.ran()
        raise ConnectionError("the provider is gone")


def _broken(session: CanarySession) -> _Broken:
    return _Broken(**dict(canaries.model(session)))


def _model_raises(session: CanarySession) -> None:
    graph = agent(session, chat=_broken(session))
    with suppress(ConnectionError):
        graph.invoke(asked(), thread())


def _model_cancelled(session: CanarySession) -> None:
    """Cancel a run while the model works: its admission must be settled."""
    started = asyncio.Event()

    class Endless(canaries.CanaryModel):
        """A model that never answers."""

        async def _agenerate(self, *arguments: Any, **options: Any) -> Any:
            self.ran()
            started.set()
            await asyncio.Event().wait()

    graph = agent(session, chat=Endless(**dict(canaries.model(session))))
    asyncio.run(cancel_after(graph.ainvoke(asked(), thread()), started))


def _fallback(session: CanarySession, *, outside: bool) -> None:
    other = canaries.model(session, name=f"{session.model_name}-other")
    falls = [ModelFallbackMiddleware(other)]
    places: Any = {"outside": falls} if outside else {"inside": falls}
    agent(session, chat=_broken(session), **places).invoke(asked(), thread())


def _model_in_tool(session: CanarySession) -> None:
    other = canaries.model(session, name=f"{session.model_name}-inside")

    def run(path: str, nonce: str) -> str:
        return str(other.invoke("go").text)

    asks = as_tool(session.tools["writes"], run)
    agent(session, [[unmarked(session)]], tools=[asks]).invoke(asked(), thread())


def _summarised(session: CanarySession) -> None:
    other = canaries.model(session, name=f"{session.model_name}-summary")
    sums = SummarizationMiddleware(other, trigger=("messages", 3), keep=("messages", 1))
    said = [HumanMessage(f"message {number}") for number in range(4)]
    agent(session, outside=[sums]).invoke({"messages": said}, thread())
