"""Look-ahead: errors that a tool would answer are said before the call, with the repair."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmos.runtime.kernel import Kernel
from fmos.traps.manifest import ToolDescriptor
from fmos.types import Principal, Reason, Verdict
from fmos.versions.versions import Versions
from fmos_trust.lookahead.failures import kind_of
from fmos_trust.lookahead.hints import LEAST, candidates, proposed
from fmos_trust.lookahead.schema import Schemas, UnreadableSchemaError
from fmos_trust.lookahead.store import LookAheadStore
from fmos_trust.tools import TrustTools

WHO = Principal(agent="writer", session="s1")
CONTRACT = """
apiVersion: agentos/v0.2
kind: AgentContract
name: writer
capabilities: ["search_web", "set_state", "get_order", "cancel_order", "create_order", "read_file"]
security:
  paths: { read: ["/out/**"] }
"""
SEARCH = {
    "name": "search_web",
    "effect": "execute",
    "description": "Search the web.",
    "input_schema": {
        "type": "object",
        "properties": {
            "query": {"type": "string"},
            "limit": {"type": "integer", "maximum": 50},
            "kind": {"enum": ["news", "images"]},
            "safe": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["query"],
    },
}


def _order(name: str, effect: str = "execute") -> dict[str, Any]:
    schema = {"type": "object", "properties": {"order_id": {"type": "string"}}}
    return {"name": name, "effect": effect, "input_schema": schema}


TOOLS = [
    SEARCH,
    _order("get_order"),
    _order("cancel_order", "write"),
    _order("create_order", "write"),
    {"name": "read_file", "effect": "read", "roles": {"path": "path"}, "input_schema": {}},
]


@pytest.fixture
def gate(kernel: Kernel) -> TrustTools:
    """A gate with a few tools that have schemas."""
    kernel.contracts.save(CONTRACT)
    made = TrustTools(kernel, WHO)
    made.call("trust_register_tools", {"tools": TOOLS})
    return made


class Calls:
    """Calls of one gate, with what came of them."""

    def __init__(self, gate: TrustTools) -> None:
        self.gate = gate
        self.count = 0

    def check(self, name: str, **arguments: Any) -> Verdict:
        """Check a call."""
        self.count += 1
        operation = {"kind": "tool.call", "name": name, "arguments": arguments}
        operation["id"] = f"{self.count:032x}"
        return Verdict.model_validate(self.gate.call("trust_check", {"operation": operation}))

    def settle(self, verdict: Verdict, error: str = "", text: str = "") -> None:
        """Say how the call ended."""
        status = "failed" if error else "ok"
        outcome = {"operation": verdict.operation, "status": status, "error": error}
        seen = {"operation": verdict.operation, "source": "tool", "text": text or error}
        self.gate.call("trust_settle", {"outcome": outcome, "observation": seen})


@pytest.fixture
def calls(gate: TrustTools) -> Calls:
    """Calls of the gate."""
    return Calls(gate)


def _ahead(verdict: Verdict) -> list[Reason]:
    return [each for each in verdict.reasons if each.code.startswith("lookahead.")]


@pytest.mark.parametrize(
    ("arguments", "code", "pointer", "change"),
    [
        ({}, "lookahead.missing", "query", "add 'query', text"),
        ({"query": "a", "limt": 3}, "lookahead.extra", "limt", "use 'limit' in place of 'limt'"),
        ({"qury": "a"}, "lookahead.extra", "qury", "use 'query' in place of 'qury'"),
        ({"query": "a", "colour": 1}, "lookahead.extra", "colour", "leave 'colour' out"),
        ({"query": "a", "limit": "5"}, "lookahead.type", "/limit", "use 5 for 'limit'"),
        ({"query": "a", "limit": "many"}, "lookahead.type", "/limit", "give an integer"),
        ({"query": 5}, "lookahead.type", "/query", "use \"5\" for 'query'"),
        ({"query": "a", "safe": "yes"}, "lookahead.type", "/safe", "give true or false"),
        ({"query": "a", "safe": "True"}, "lookahead.type", "/safe", "use true for 'safe'"),
        ({"query": "a", "tags": "x"}, "lookahead.type", "/tags", "use [\"x\"] for 'tags'"),
        ({"query": "a", "tags": [1]}, "lookahead.type", "/tags/0", "use \"1\" for 'tags'"),
        ({"query": "a", "kind": "new"}, "lookahead.enum", "/kind", 'use "news"'),
        ({"query": "a", "limit": 90}, "lookahead.value", "/limit", ""),
    ],
)
def test_arguments_that_do_not_fit_are_said_with_the_repair(
    calls: Calls, arguments: dict[str, Any], code: str, pointer: str, change: str
) -> None:
    """Each violation is a denial that names the place and, where it is certain, the repair."""
    verdict = calls.check("search_web", **arguments)
    assert not verdict.allowed
    found = _ahead(verdict)
    assert [each.code for each in found] == [code]
    assert pointer in found[0].message
    assert found[0].change == change
    assert found[0].layer == "selection"


def test_all_violations_are_listed_at_once(calls: Calls) -> None:
    """A model repairs a call once, not once for each mistake."""
    found = _ahead(calls.check("search_web", limit="x", kind="z", colour=1))
    assert [each.code.split(".")[1] for each in found] == ["extra", "missing", "type", "enum"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"query": "a"},
        {"query": "a", "limit": None, "safe": None, "kind": "news", "tags": []},
        {"query": "", "limit": 50},
    ],
)
def test_what_fits_passes(calls: Calls, arguments: dict[str, Any]) -> None:
    """Optional arguments may be left out or null."""
    verdict = calls.check("search_web", **arguments)
    assert verdict.allowed
    assert not _ahead(verdict)


def test_an_unknown_tool_has_its_nearest_name(calls: Calls) -> None:
    """A misspelt name gives the name that was meant."""
    found = _ahead(calls.check("searchWeb", query="a"))
    assert [(each.code, each.change) for each in found] == [("lookahead.tool", "use 'search_web'")]
    far = _ahead(calls.check("launch_rocket"))
    assert "cancel_order" in far[0].change


def test_an_id_that_nothing_has_shown_is_denied(gate: TrustTools, calls: Calls) -> None:
    """An id has to come from the user or from an output; what a tool creates may be named anew."""
    looked = calls.check("search_web", query="orders")
    calls.settle(looked, text='{"orders": [{"order_id": "A-4711", "total": 20}]}')
    assert calls.check("get_order", order_id="A-4711").allowed
    denied = calls.check("get_order", order_id="A-4712")
    assert [each.code for each in _ahead(denied)] == ["lookahead.id"]
    assert calls.check("get_order", order_id="the last one").allowed
    assert "lookahead.id" not in [
        each.code for each in calls.check("create_order", order_id="Z-99").reasons
    ]


def test_a_call_that_failed_is_not_repeated_as_it_was(calls: Calls) -> None:
    """The first repetition is held up with what to do; one that is meant passes."""
    first = calls.check("search_web", query="a")
    calls.settle(first, error="404 not found")
    again = calls.check("search_web", query="a")
    assert [each.code for each in _ahead(again)] == ["lookahead.repeated"]
    assert not again.allowed
    assert calls.check("search_web", query="b").allowed
    third = calls.check("search_web", query="a")
    assert third.allowed
    assert [each.code for each in _ahead(third)] == ["lookahead.repeated"]


def test_a_failure_that_passes_by_itself_may_be_retried(calls: Calls) -> None:
    """Time-outs, rate limits and pending work are tried again, and nothing else is held up."""
    for error in ("connection timed out", "429 too many requests", "job still running"):
        first = calls.check("search_web", query=error)
        calls.settle(first, error=error)
        assert calls.check("search_web", query=error).allowed


def test_what_changed_something_gives_failed_calls_another_try(calls: Calls) -> None:
    """After a write that worked, what was not found may be there."""
    calls.settle(calls.check("search_web", query="a"), error="not found")
    calls.settle(calls.check("create_order", order_id="new"))
    verdict = calls.check("search_web", query="a")
    assert verdict.allowed
    assert not _ahead(verdict)


def test_a_success_ends_the_memory_of_a_failure(calls: Calls, kernel: Kernel) -> None:
    """A call that works at last is no failure any more; another session has none either."""
    calls.settle(calls.check("search_web", query="a"), error="busy, try again")
    other = Calls(TrustTools(kernel, Principal(agent="writer", session="s2")))
    assert not _ahead(other.check("search_web", query="a"))
    calls.settle(calls.check("search_web", query="a"))
    assert not _ahead(calls.check("search_web", query="a"))


def test_a_path_without_its_folder_is_repaired(calls: Calls) -> None:
    """Where the contract leaves one folder, the repaired path is named."""
    found = _ahead(calls.check("read_file", path="notes/a.md"))
    codes = [(each.code, each.change) for each in found]
    assert codes == [("lookahead.contract", "use '/out/notes/a.md', if that is what is meant")]
    assert not _ahead(calls.check("read_file", path="/etc/../../passwd/.."))


def test_a_schema_that_is_none_stops_nothing(gate: TrustTools, kernel: Kernel) -> None:
    """A mistake of the application is a note, and nothing is fetched for it."""
    tool = ToolDescriptor(
        name="x", effect="read", input_schema={"$ref": "http://127.0.0.1:9/none.json"}
    )
    with pytest.raises(UnreadableSchemaError):
        Schemas().problems(tool, {})


def test_a_habit_becomes_a_hint_once_a_person_accepts_it(calls: Calls, kernel: Kernel) -> None:
    """Recurring failures make a candidate; only an accepted one goes with verdicts."""
    for at in range(LEAST):
        calls.check("search_web", query="a", limit=f"x{at}")
        calls.settle(calls.check("search_web", query=f"q{at}"), error="404 not found")
    found = candidates(LookAheadStore(kernel.database).lessons("default", LEAST))
    assert [each.tool for each in found] == ["search_web"]
    assert "mind the type of 'limit'" in found[0].text
    assert "look up the name or id first" in found[0].text
    assert len(proposed(kernel, "default", found, author="user:ann")) == 1
    assert not _ahead(calls.check("search_web", query="fresh"))
    versions = Versions(kernel)
    [candidate] = versions.candidates("default", "tool_hint", "search_web")
    versions.accept(candidate, by="user:bob", override="reviewed")
    later = Calls(TrustTools(kernel, Principal(agent="writer", session="s9")))
    notes = _ahead(later.check("search_web", query="fresh"))
    assert [(each.code, each.message) for each in notes] == [("lookahead.hint", found[0].text)]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("TimeoutError", "transient"), ("HTTP 503", "transient"), ("KeyError: 'a'", "not found"),
        ("HTTP 403 Forbidden", "not allowed"), ("it already exists", "exists already"),
        ("ValueError: bad date", "wrong value"), ("boom", "error"),
    ],
)  # fmt: skip
def test_errors_are_sorted_by_what_can_be_done(text: str, kind: str) -> None:
    """What passes by itself is never taken for what does not."""
    assert kind_of(text) == kind


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(arguments=st.dictionaries(st.sampled_from(["query", "limit", "kind", "tags", "x"]), _JSON))
def test_whatever_does_not_fit_is_found_and_nothing_crashes(arguments: dict[str, Any]) -> None:
    """A call has problems exactly if the schema or the list of arguments is against it."""
    import jsonschema_rs

    tool = ToolDescriptor.model_validate(SEARCH)
    kept = {
        name: value for name, value in arguments.items() if value is not None or name == "query"
    }
    fits = jsonschema_rs.is_valid(SEARCH["input_schema"], kept) and "x" not in arguments
    assert (not Schemas().problems(tool, arguments)) == fits
