"""LangGraph's seams: every way in which a graph reaches a tool, a model or the agent's state.

`fmos check` drives each with real LangGraph objects and looks for what ran in the journal. What
this adapter cannot intercept is here as well, declared, with the reason and the way out.
"""

from __future__ import annotations

from collections.abc import Iterator

from fmos.check.seams import Seam
from fmos_langgraph.seams import consent, graphs, models, ordering, runs, state, tools


def seams() -> Iterator[Seam]:
    """Yield every seam of LangGraph that is known to this adapter."""
    for part in (runs, tools, consent, ordering, models, state, graphs):
        yield from part.seams()
