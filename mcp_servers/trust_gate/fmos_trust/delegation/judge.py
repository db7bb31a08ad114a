"""The judge of delegated scopes: which tools a sub-agent may call at all.

Capabilities, paths, recipients and budgets of a delegation are in the sub-agent's contract already.
"""

from __future__ import annotations

from collections.abc import Iterator

from fmos.contract.globs import matches_name
from fmos_trust.facts import Facts
from fmos_trust.findings import Finding, finding


def delegated_tools(facts: Facts) -> Iterator[Finding]:
    """Deny a tool that is not on each list of those delegated to the agent."""
    for tools in facts.standing.mandate.tools if facts.standing is not None else ():
        if not matches_name(tools, facts.tool):
            listed = ", ".join(tools) or "none"
            yield finding(
                "deny", "selection", "trust.delegation",
                f"the tool {facts.tool!r} was not delegated to this agent, which has {listed}; use "
                "one of these, or hand the work back to the agent that gave it to you",
                rule="delegation",
                change="delegate the tool with `fmos agent delegate --tool`",
            )  # fmt: skip
            return
