"""What a person answers: by resuming a run, and in its place by `on_ask`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from langgraph.types import Command

from fmos.check.canary import CanarySession
from fmos.check.seams import Seam
from fmos.errors import ArgumentError
from fmos_langgraph.middleware import FmosMiddleware
from fmos_langgraph.seams.canaries import (
    agent,
    asked,
    thread,
)
from fmos_langgraph.seams.declaring import intercepted

_YES = {"approved": True, "approver": "user:canary", "reason": "a canary"}


def seams() -> Iterator[Seam]:
    """Yield the seams of this part."""
    code = FmosMiddleware.wrap_tool_call
    yield intercepted("resume.approved", code, lambda s: _resumed(s, _YES, decide=_decide(s)))
    yield intercepted("resume.in_ainvoke", FmosMiddleware.awrap_tool_call, _resumed_async)
    yield intercepted(
        "resume.refused", code,
        lambda s: _resumed(s, {**_YES, "approved": False}, decide=_decide(s)),
    )  # fmt: skip
    yield intercepted("resume.without_a_record", code, lambda s: _resumed(s, _YES))
    yield intercepted("on_ask.approved", code, lambda s: _on_ask(s, record=True))
    yield intercepted("on_ask.without_a_record", code, lambda s: _on_ask(s, record=False))


def _decide(session: CanarySession) -> Any:
    if session.decide is None:
        raise ArgumentError("nobody can approve here", hint="drive_seams(approvals=...)")
    return session.decide


def _asking(session: CanarySession, runs: bool, **settings: Any) -> Any:
    call = session.call("asks", "run" if runs else "refuse")
    return agent(session, [[call]], settings=settings)


def _resumed(session: CanarySession, answer: dict[str, Any], **settings: Any) -> None:
    runs = bool(answer["approved"] and settings)
    graph = _asking(session, runs, **settings)
    graph.invoke(asked(), thread())
    graph.invoke(Command(resume=answer), thread())


def _resumed_async(session: CanarySession) -> None:
    graph = _asking(session, True, decide=_decide(session))

    async def run() -> None:
        await graph.ainvoke(asked(), thread())
        await graph.ainvoke(Command(resume=_YES), thread())

    asyncio.run(run())


def _on_ask(session: CanarySession, *, record: bool) -> None:
    decide = _decide(session)

    def answer(operation: Any, verdict: Any, request: Any) -> bool:
        if record:
            decide(verdict.approval, True, "user:canary", "a canary")
        return True

    _asking(session, record, on_ask=answer).invoke(asked(), thread())
