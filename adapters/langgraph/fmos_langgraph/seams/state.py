"""What an agent keeps: checkpoints and the store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from fmos.check.canary import CanarySession
from fmos.check.seams import Seam
from fmos.types import OperationKind
from fmos_langgraph.checkpointer import FmosSaver
from fmos_langgraph.seams.canaries import (
    agent,
    asked,
    thread,
)
from fmos_langgraph.seams.declaring import declared, intercepted
from fmos_langgraph.store import FmosStore


def seams() -> Iterator[Seam]:
    """Yield the seams of this part."""
    yield intercepted("checkpointer.put", FmosSaver.put, _saved, OperationKind.CHECKPOINT_WRITE)
    yield intercepted("checkpointer.aput", FmosSaver.aput, _asaved, OperationKind.CHECKPOINT_WRITE)
    yield declared(
        "store.put", FmosStore.put, _remembered,
        "FmosStore writes to the agent's branch itself: each change is in the journal, but there is"
        " no verdict, and `budgets.memory_writes` does not count it",
        "remember through the memory server (`memory_write`)",
        OperationKind.MEMORY_WRITE,
    )  # fmt: skip


def _saved(session: CanarySession) -> None:
    graph = agent(session, [[session.call("reads", "run")]])
    graph.invoke(asked(), thread())
    _note_saved(session)


def _asaved(session: CanarySession) -> None:
    graph = agent(session, [[session.call("reads", "run")]])
    asyncio.run(graph.ainvoke(asked(), thread()))
    _note_saved(session)


def _note_saved(session: CanarySession) -> None:
    for stored in FmosSaver.from_fs(session.state).list(thread()):
        session.stored(OperationKind.CHECKPOINT_WRITE, stored.checkpoint["id"])


def _remembered(session: CanarySession) -> None:
    store = FmosStore.from_fs(session.state)
    store.put(("canaries",), "one", {"text": "a canary"})
    session.stored(OperationKind.MEMORY_WRITE, "one")
    session.ran(OperationKind.MEMORY_WRITE, "one")
