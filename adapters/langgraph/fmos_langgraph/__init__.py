"""FMOS for LangGraph: a middleware for `create_agent` and a checkpointer on the agent's branch."""

from fmos_langgraph.checkpointer import FmosSaver
from fmos_langgraph.middleware import Ask, Decide, FmosMiddleware

__all__ = ["Ask", "Decide", "FmosMiddleware", "FmosSaver"]
