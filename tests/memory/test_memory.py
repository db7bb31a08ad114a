"""The memory tools over a real home: write, search and get."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmos.clock import FixedClock
from fmos.errors import ArgumentError, BudgetExceededError, NotFoundError
from fmos.runtime.kernel import Kernel
from fmos.types import Principal
from fmos_memory.tools import MemoryTools


def _texts(tools: MemoryTools, query: str, **arguments: object) -> list[str]:
    found = tools.call("memory_search", {"query": query, "agent": "a", **arguments})
    return [hit["text"] for hit in found["hits"]]


def test_written_memory_is_found_and_read_back(tmp_path: Path) -> None:
    """A memory comes back from search and get with all that was written."""
    with Kernel.open(tmp_path, FixedClock()) as kernel:
        tools = MemoryTools(kernel)
        given = {"text": "The build runs on Fridays", "namespace": "ops", "kind": "episodic"}
        more = {"tags": ["ci", "weekly"], "source": "mail:7", "agent": "a"}
        item = tools.call("memory_write", {**given, **more})
        assert item["created_ns"] == FixedClock().now_ns()
        assert tools.call("memory_get", {"id": item["id"], "agent": "a"}) == item
        (hit,) = tools.call("memory_search", {"query": "when do builds run", "agent": "a"})["hits"]
        shared = ("id", "namespace", "kind", "text", "tags", "source", "created_ns")
        assert {key: hit[key] for key in shared} == {key: item[key] for key in shared}
        assert hit["score"] > 0


def test_search_ranks_the_better_match_first(tmp_path: Path) -> None:
    """A memory that shares more words with the query comes first, and the limit holds."""
    with Kernel.open(tmp_path) as kernel:
        tools = MemoryTools(kernel)
        for text in ("the red house", "a red boat on a lake", "a blue lake"):
            tools.call("memory_write", {"text": text, "agent": "a"})
        found = _texts(tools, "red boat")
        assert found[0] == "a red boat on a lake"
        assert sorted(found) == ["a red boat on a lake", "the red house"]
        assert len(_texts(tools, "red lake", limit=1)) == 1


def test_namespace_limits_a_search(tmp_path: Path) -> None:
    """A search in one namespace does not see another; an empty one sees all."""
    with Kernel.open(tmp_path) as kernel:
        tools = MemoryTools(kernel)
        for namespace in ("one", "two"):
            text = f"shared word in {namespace}"
            tools.call("memory_write", {"text": text, "namespace": namespace, "agent": "a"})
        assert _texts(tools, "shared", namespace="two") == ["shared word in two"]
        assert len(_texts(tools, "shared")) == 2


def test_agents_do_not_see_each_other(tmp_path: Path) -> None:
    """What one agent writes is neither found nor got by another."""
    with Kernel.open(tmp_path) as kernel:
        tools = MemoryTools(kernel)
        item = tools.call("memory_write", {"text": "a secret of b", "agent": "b"})
        assert _texts(tools, "secret") == []
        with pytest.raises(NotFoundError, match="memory_search"):
            tools.call("memory_get", {"id": item["id"], "agent": "a"})


def test_many_matches_of_another_agent_hide_nothing(tmp_path: Path) -> None:
    """A hit is found behind hundreds of better ones that belong to another branch."""
    with Kernel.open(tmp_path) as kernel:
        tools = MemoryTools(kernel)
        with kernel.volume("default").transaction():
            for _ in range(150):
                tools.call("memory_write", {"text": "needle", "agent": "b"})
        tools.call("memory_write", {"text": "a needle in a long stack of hay", "agent": "a"})
        assert _texts(tools, "needle") == ["a needle in a long stack of hay"]


@pytest.mark.parametrize(
    "query", ['"', "a AND OR NOT", "text:x*", "(NEAR", "^-+{}[]|\\';--", "\x00needle", "nee*"]
)
def test_operators_of_the_index_are_plain_text(tmp_path: Path, query: str) -> None:
    """No character of a query is an operator or an error."""
    with Kernel.open(tmp_path) as kernel:
        tools = MemoryTools(kernel)
        tools.call("memory_write", {"text": "needle", "agent": "a"})
        assert _texts(tools, query) == (["needle"] if query == "\x00needle" else [])


@pytest.mark.parametrize("query", ["", "  \n"])
def test_empty_query_is_refused(tmp_path: Path, query: str) -> None:
    """A query without anything to look for names the argument."""
    with Kernel.open(tmp_path) as kernel, pytest.raises(ArgumentError, match="'query' is empty"):
        MemoryTools(kernel).call("memory_search", {"query": query, "agent": "a"})


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Zürich liegt am See", "zurich"),
        ("東京タワーは高い", "タワー"),
        ("Москва слезам не верит", "МОСКВА"),
        ("naïve café 🎉", "café 🎉"),
        ("use snake_case_names", "snake_case_names"),
    ],
)
def test_unicode_is_found(tmp_path: Path, text: str, query: str) -> None:
    """Words of any script are found, also where no spaces separate them."""
    with Kernel.open(tmp_path) as kernel:
        tools = MemoryTools(kernel)
        tools.call("memory_write", {"text": text, "agent": "a"})
        assert _texts(tools, query) == [text]


def test_one_megabyte_is_kept_and_found(tmp_path: Path) -> None:
    """A huge memory is found by its last word, its hit is cut, and get returns all of it."""
    text = "filler words " * 80_000 + "zebra"
    with Kernel.open(tmp_path) as kernel:
        tools = MemoryTools(kernel)
        item = tools.call("memory_write", {"text": text, "agent": "a"})
        assert [len(hit) for hit in _texts(tools, "zebra")] == [4_000]
        assert _texts(tools, text + " zebra")
        assert tools.call("memory_get", {"id": item["id"], "agent": "a"})["text"] == text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": " "}, "'text' is empty"),
        ({"text": "x" * 2_000_001}, "'text' has 2000001 bytes"),
        ({"text": "x", "namespace": "../up"}, "'../up' cannot be a namespace"),
        ({"text": "x", "namespace": ""}, "'' cannot be a namespace"),
        ({"text": "x", "kind": "vague"}, "'kind'"),
        ({"text": "x", "tags": ["t" * 129]}, "'tags'"),
        ({"text": "lone \ud800"}, "'text'"),
        ({}, "'text'"),
    ],
)
def test_unusable_arguments_are_named(
    tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    """A write that cannot be done says which argument and why, and writes nothing."""
    with Kernel.open(tmp_path) as kernel:
        tools = MemoryTools(kernel)
        with pytest.raises(ArgumentError, match=message):
            tools.call("memory_write", {**arguments, "agent": "a"})
        assert not kernel.agent_fs(Principal(agent="a")).exists("/.fmos/memory")


@pytest.mark.parametrize("memory", ["0" * 32, "", "../../etc/passwd", "x" * 10_000])
def test_unknown_id_is_not_found(tmp_path: Path, memory: str) -> None:
    """An id that was never given out says how to find one."""
    with Kernel.open(tmp_path) as kernel, pytest.raises(NotFoundError, match="memory_search"):
        MemoryTools(kernel).call("memory_get", {"id": memory, "agent": "a"})


def test_writes_are_journalled_without_their_text(tmp_path: Path) -> None:
    """Intent stands before outcome in the journal, and neither holds the memory's text."""
    with Kernel.open(tmp_path) as kernel:
        MemoryTools(kernel).call("memory_write", {"text": "do not copy me", "agent": "a"})
        rows = [row for row in kernel.volume("default").journal() if "memory.write" in str(row)]
        assert len(rows) == 2
        assert "intent" in str(rows[0])
        assert "done" in str(rows[1])
        assert "do not copy me" not in "".join(map(str, rows))


def test_account_without_memory_writes_refuses(tmp_path: Path) -> None:
    """When the account's memory writes are spent, nothing is written."""
    with Kernel.open(tmp_path) as kernel:
        tools = MemoryTools(kernel)
        account = kernel.account(Principal(agent="a"))
        kernel.ledger.set_limit(account, "memory_writes", 1)
        tools.call("memory_write", {"text": "first", "agent": "a"})
        with pytest.raises(BudgetExceededError):
            tools.call("memory_write", {"text": "second", "agent": "a"})
        assert _texts(tools, "first second") == ["first"]
