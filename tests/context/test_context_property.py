"""For any session: never over budget, and every text reads back byte for byte."""

from __future__ import annotations

import tempfile
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmos.errors import ArgumentError
from fmos.runtime.kernel import Kernel
from fmos.tokens import default_counter
from fmos_context.service import MESSAGE_TOKENS
from fmos_context.tools import ContextTools

_TEXTS = st.one_of(
    st.text(max_size=60),
    st.builds(lambda text, times: text * times, st.text(min_size=1, max_size=12), st.just(300)),
    st.sampled_from(["line\r\n" * 900, "日本語\n" * 2_500, "\x00" * 5_000, "word " * 5_000]),
)
_ITEMS = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "assistant", "tool", "tool", "system"]),
            "text": _TEXTS,
            "name": st.sampled_from(["", "ls", "context_read"]),
            "call_id": st.sampled_from(["", "c1", "c2"]),
            "pinned": st.sampled_from([False, False, False, True]),
        }
    ),
    max_size=12,
)


def _read_all(tools: ContextTools, ids: dict[str, str], handle: str) -> bytes:
    text, offset = "", 0
    while offset is not None:
        arguments: dict[str, Any] = {"handle": handle, "offset": offset, "limit": 20_000, **ids}
        span = tools.call("context_read", arguments)
        text, offset = text + span["text"], span["next_offset"]
    return text.encode()


def _check_budget(tools: ContextTools, ids: dict[str, str], budget: int) -> None:
    try:
        composed = tools.call("context_compose", {"max_tokens": budget, **ids})
    except ArgumentError:
        # The required items alone are too much, which tests/context/test_context.py covers.
        return
    count = default_counter().count
    tokens = sum(
        MESSAGE_TOKENS + count(message["text"]) + (count(message["name"]) if message["name"] else 0)
        for message in composed["messages"]
    )
    assert tokens == composed["tokens"] <= budget
    assert composed["tokens"] <= composed["tokens_raw"] or composed["dropped_handle"] is not None


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    system=st.sampled_from(["", "Be brief and exact."]),
    threshold=st.sampled_from([1, 64, 1_500, 8_192]),
    items=_ITEMS,
    budgets=st.lists(st.integers(1, 9_000), min_size=1, max_size=6),
)
def test_compose_keeps_the_budget_and_loses_nothing(
    system: str, threshold: int, items: list[dict[str, Any]], budgets: list[int]
) -> None:
    """Whatever was appended, no budget is exceeded and each paged-out text is exact."""
    with tempfile.TemporaryDirectory() as home, Kernel.open(home) as kernel:
        tools = ContextTools(kernel)
        ids = {"agent": "a", "session": "s"}
        opening = {"system": system, "threshold_bytes": threshold}
        tools.call("context_open", {**opening, **ids})
        for item in items:
            added = tools.call("context_append", {**item, **ids})
            if added["inline"]:
                assert added["text"] == item["text"]
            else:
                assert _read_all(tools, ids, added["handle"]) == item["text"].encode()
        for budget in budgets:
            _check_budget(tools, ids, budget)
