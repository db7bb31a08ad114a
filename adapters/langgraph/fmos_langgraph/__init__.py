"""FMOS for LangGraph: middleware for `create_agent`, checkpointer and store on a branch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fmos_langgraph.checkpointer import FmosSaver
from fmos_langgraph.migration import Imported, import_checkpoints
from fmos_langgraph.retention import Retention
from fmos_langgraph.store import FmosStore

if TYPE_CHECKING:
    from fmos_langgraph.middleware import Ask, Decide, FmosMiddleware

__all__ = [
    "Ask",
    "Decide",
    "FmosMiddleware",
    "FmosSaver",
    "FmosStore",
    "Imported",
    "Retention",
    "import_checkpoints",
]


def __getattr__(name: str) -> object:
    """Import the middleware when it is first asked for: the saver does without `langchain`."""
    if name in __all__:
        from fmos_langgraph import middleware  # noqa: PLC0415 - needs langchain, loads for a second

        return getattr(middleware, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
