"""LangGraph's seams: canaries through each of them, found in the journal or declared as a gap."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fmos.check.canary import SeamResults, drive_seams
from fmos.check.seams import adapter_names, seams_of
from fmos_langgraph import FmosMiddleware
from fmos_langgraph.seams import tools
from fmos_trust.approvals import Approvals

#: What LangGraph cannot intercept today. A name may only leave this list.
DECLARED = {
    "graph.node",
    "graph.tool_node",
    "graph.ungoverned_agent_as_tool",
    "middleware.inside_changes_arguments",
    "middleware.inside_retries",
    "middleware.outside_runs_the_tool",
    "model.asked_by_middleware",
    "model.fallback_inside",
    "model.inside_a_tool",
    "store.put",
    "tool.at_the_provider",
    "tool.calls_a_tool",
    "tool.response_format",
}


@pytest.fixture(scope="module")
def results() -> SeamResults:
    """What driving every seam found."""
    return drive_seams(
        "langgraph", seams_of("langgraph"), approvals=lambda kernel: Approvals(kernel).decide
    )


def wrong(results: SeamResults) -> dict[str, str]:
    """Return the seams at which a canary came through, or that could not be driven."""
    return {s.name: s.reason for s in results.seams if s.status in ("bypassed", "failed")}


def test_no_seam_is_bypassed_but_for_the_declared(results: SeamResults) -> None:
    """Every canary is judged before it runs, or its seam says itself that it is not."""
    assert wrong(results) == {}
    assert {s.name for s in results.seams if s.status == "declared"} == DECLARED
    assert results.warnings == []


def test_declared_gaps_name_file_reason_and_way_out(results: SeamResults) -> None:
    """Each declared gap is one of the report, complete enough to act on."""
    gaps = [gap for gap in results.gaps if gap.where.removeprefix("langgraph.") in DECLARED]
    assert len(gaps) == len(DECLARED)
    for gap in gaps:
        assert gap.file.rpartition(":")[2].isdigit()
        assert gap.reason
        assert gap.hint


def test_seams_have_names_of_their_own_and_canaries(results: SeamResults) -> None:
    """No two seams share a name, and each let out at least one canary."""
    assert max(Counter(s.name for s in results.seams).values()) == 1
    assert all(s.canaries for s in results.seams)
    assert len(results.seams) >= 50


def test_adapter_is_registered() -> None:
    """`fmos check` finds the adapter without being told where it is."""
    assert "langgraph" in adapter_names()


def test_leak_in_the_middleware_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """When every third tool call of the middleware runs directly, its seams are bypassed."""
    real = FmosMiddleware.wrap_tool_call
    seen: list[str] = []

    def leaky(self: FmosMiddleware, request: Any, handler: Any) -> Any:
        seen.append(request.tool_call["name"])
        return handler(request) if len(seen) % 3 == 0 else real(self, request, handler)

    monkeypatch.setattr(FmosMiddleware, "wrap_tool_call", leaky)
    (seam,) = [each for each in tools.seams() if each.name == "tool.function"]
    found = drive_seams("langgraph", [seam])
    assert found.seams[0].status == "bypassed"
    assert found.gaps[0].where == "langgraph.tool.function"


def test_page_lists_the_declared_gaps(results: SeamResults) -> None:
    """docs/check.md names every seam that is not intercepted, with its reason and way out."""
    page = (Path(__file__).parents[2] / "docs" / "check.md").read_text(encoding="utf-8")
    told = {line for line in page.splitlines() if line.startswith("| `")}
    declared = [seam for seam in seams_of("langgraph") if not seam.intercepts]
    for seam in declared:
        assert f"| `{seam.name}` | {seam.reason} | {seam.hint} |" in told
    assert {seam.name for seam in declared} == DECLARED
    assert f"{len(results.seams)} seams are driven" in page
