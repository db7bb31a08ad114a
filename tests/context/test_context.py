"""The context tools over a real home: the size rule, composing and reading back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fmos.errors import ArgumentError, NotFoundError, PrincipalError
from fmos.runtime.kernel import Kernel
from fmos.types import Principal
from fmos_context.tools import ContextTools


class Talk:
    """One open session of agent `a`, with the arguments that each call repeats filled in."""

    def __init__(self, kernel: Kernel, session: str = "s1", agent: str = "a", **how: Any) -> None:
        self.tools = ContextTools(kernel)
        self.ids = {"agent": agent, "session": session}
        self.opened = self.call("open", **how)

    def call(self, verb: str, **arguments: Any) -> Any:
        """Call a tool of the session."""
        return self.tools.call(f"context_{verb}", {**arguments, **self.ids})

    def add(self, role: str, text: str, **more: Any) -> Any:
        """Append one item."""
        return self.call("append", role=role, text=text, **more)

    def read_all(self, handle: str, **how: Any) -> str:
        """Return all of a handle's text, span by span."""
        text, offset = "", 0
        while offset is not None:
            span = self.call("read", handle=handle, offset=offset, **how)
            text, offset = text + span["text"], span["next_offset"]
        assert len(text) == span["total"]
        return text


def _items(composed: dict[str, Any]) -> list[str]:
    return [message["item"] for message in composed["messages"]]


def test_text_beyond_the_threshold_is_paged_out(tmp_path: Path) -> None:
    """At the threshold a text stays, one byte beyond it a stub with a handle takes its place."""
    with Kernel.open(tmp_path) as kernel:
        talk = Talk(kernel, threshold_bytes=1_000)
        kept = talk.add("tool", "x" * 1_000)
        assert (kept["inline"], kept["handle"], kept["text"]) == (True, None, "x" * 1_000)
        text = "é\n" + "x" * 998
        out = talk.add("tool", text)
        assert not out["inline"]
        assert out["handle"] in out["text"]
        assert "1001 bytes, 2 lines" in out["text"]
        assert talk.read_all(out["handle"]) == text


def test_words_of_people_stay_whole_up_to_the_hard_cap(tmp_path: Path) -> None:
    """A user's text and a pinned one pass the threshold, but nothing passes 20 KB."""
    with Kernel.open(tmp_path) as kernel:
        talk = Talk(kernel, threshold_bytes=100)
        assert talk.add("user", "x" * 20_480)["inline"]
        assert talk.add("tool", "x" * 20_480, pinned=True)["inline"]
        assert not talk.add("user", "x" * 20_481)["inline"]
        assert not talk.add("system", "x" * 20_481, pinned=True)["inline"]


def test_a_span_that_was_read_is_not_paged_out_again(tmp_path: Path) -> None:
    """The largest reply of context_read stays inline when it is appended."""
    with Kernel.open(tmp_path) as kernel:
        talk = Talk(kernel, threshold_bytes=100)
        handle = talk.add("tool", "日本\n" * 20_000)["handle"]
        span = talk.call("read", handle=handle, limit=1_000_000)
        assert talk.add("tool", span["text"], name="context_read")["inline"]


def test_stub_shows_head_tail_and_the_way_to_more(tmp_path: Path) -> None:
    """A stub is short, starts and ends like the text, and names the tool that reads it."""
    with Kernel.open(tmp_path) as kernel:
        talk = Talk(kernel)
        stub = talk.add("tool", "BEGIN" + "x" * 100_000 + "END", name="run")["text"]
        assert "BEGIN" in stub
        assert "END" in stub
        assert "context_read(handle=" in stub
        assert len(stub) < 700


def test_compose_returns_all_that_fits_in_order(tmp_path: Path) -> None:
    """A short session is returned as it was, after its system prompt, and nothing is lost."""
    with Kernel.open(tmp_path) as kernel:
        talk = Talk(kernel, system="Be brief.")
        talk.add("user", "hello")
        talk.add("assistant", "calling", call_id="c1")
        talk.add("tool", "result", name="ls", call_id="c1")
        composed = talk.call("compose")
        assert [message["text"] for message in composed["messages"]] == [
            "Be brief.",
            "hello",
            "calling",
            "result",
        ]
        assert composed["messages"][3] == {
            "item": "i2",
            "role": "tool",
            "text": "result",
            "name": "ls",
            "call_id": "c1",
            "replaced": False,
        }
        assert composed["tokens"] == composed["tokens_raw"]
        assert composed["dropped_handle"] is None


def test_paged_out_text_costs_its_stub(tmp_path: Path) -> None:
    """Composing sends the stub, says so, and reports what the whole would have cost."""
    with Kernel.open(tmp_path) as kernel:
        talk = Talk(kernel)
        out = talk.add("tool", "word " * 20_000)
        composed = talk.call("compose")
        assert composed["messages"][0]["text"] == out["text"]
        assert composed["messages"][0]["replaced"]
        assert composed["tokens"] * 20 < composed["tokens_raw"]


def test_older_texts_become_stubs_before_any_is_dropped(tmp_path: Path) -> None:
    """With less room the newest texts stay whole and older ones are shown as stubs."""
    with Kernel.open(tmp_path) as kernel:
        talk = Talk(kernel)
        for _ in range(4):
            talk.add("tool", "some words here " * 250)
        composed = talk.call("compose", max_tokens=2_600)
        replaced = [message["replaced"] for message in composed["messages"]]
        assert replaced == [True, True, False, False]
        stub = composed["messages"][0]["text"]
        handle = re.search(r"handle (\S+)\]", stub)
        assert handle is not None
        assert talk.read_all(handle[1]) == "some words here " * 250


def test_dropped_items_can_be_read(tmp_path: Path) -> None:
    """What does not fit is behind one handle that the model is told about."""
    with Kernel.open(tmp_path) as kernel:
        talk = Talk(kernel, system="Be brief.")
        for number in range(100):
            talk.add("user", f"message number {number}")
        composed = talk.call("compose", max_tokens=300)
        assert composed["tokens"] <= 300
        assert _items(composed)[:2] == ["system", "dropped"]
        assert _items(composed)[-1] == "i99"
        assert composed["dropped_handle"] in composed["messages"][1]["text"]
        dropped = talk.read_all(composed["dropped_handle"])
        shown = {message["text"] for message in composed["messages"]}
        for number in range(100):
            text = f"message number {number}"
            assert (text in shown) != (f"]\n{text}\n" in dropped + "\n")
        assert talk.call("compose", max_tokens=300) == composed


def test_pinned_items_and_the_last_user_message_always_stay(tmp_path: Path) -> None:
    """A small budget keeps them, however old, and drops the rest."""
    with Kernel.open(tmp_path) as kernel:
        talk = Talk(kernel)
        talk.add("tool", "the rules", pinned=True)
        talk.add("user", "the question")
        for _ in range(50):
            talk.add("assistant", "thinking about it for a while")
        composed = talk.call("compose", max_tokens=120)
        assert {"i0", "i1"} <= set(_items(composed))
        assert composed["tokens"] <= 120


def test_too_small_a_budget_says_what_is_needed(tmp_path: Path) -> None:
    """When even the required items do not fit, the error names a budget that does."""
    with Kernel.open(tmp_path) as kernel:
        talk = Talk(kernel)
        talk.add("user", "a long question " * 100)
        with pytest.raises(ArgumentError, match="last user message") as caught:
            talk.call("compose", max_tokens=50)
        needed = re.search(r"set max_tokens to (\d+)", str(caught.value))
        assert needed is not None
        assert talk.call("compose", max_tokens=int(needed[1]))["tokens"] == int(needed[1])
        with pytest.raises(ArgumentError, match="last user message"):
            talk.call("compose", max_tokens=int(needed[1]) - 1)


def test_call_and_results_stay_together(tmp_path: Path) -> None:
    """At every budget an assistant's calls are shown with all their results or not at all."""
    with Kernel.open(tmp_path) as kernel:
        talk = Talk(kernel)
        talk.add("user", "go")
        for turn in range(8):
            # The same ids come back each turn, as with scripted models.
            talk.add("assistant", f"turn {turn} calls two tools", call_id="c1,c2")
            talk.add("tool", f"first result of {turn}", call_id="c1")
            talk.add("tool", f"second result of {turn}", call_id="c2")
        for budget in range(60, 600, 15):
            shown = _items(talk.call("compose", max_tokens=budget))
            for first in range(1, 25, 3):
                unit = {f"i{first}", f"i{first + 1}", f"i{first + 2}"}
                assert unit <= set(shown) or not unit & set(shown)


def test_compose_considers_only_the_items_asked_for(tmp_path: Path) -> None:
    """A list of items limits the context to them; an unknown one is named."""
    with Kernel.open(tmp_path) as kernel:
        talk = Talk(kernel)
        for text in ("one", "two", "three"):
            talk.add("user", text)
        assert _items(talk.call("compose", items=["i2", "i0"])) == ["i0", "i2"]
        for unknown in ("i3", "x", "i0/../1"):
            with pytest.raises(NotFoundError, match=re.escape(unknown)):
                talk.call("compose", items=[unknown])


def test_pattern_returns_numbered_lines(tmp_path: Path) -> None:
    """A pattern finds lines with their numbers, by span, and none is an empty text."""
    with Kernel.open(tmp_path) as kernel:
        talk = Talk(kernel)
        lines = [f"row {number}" for number in range(1, 20_001)]
        lines[6_999] = "ERROR: disk full"
        handle = talk.add("tool", "\n".join(lines))["handle"]
        found = talk.call("read", handle=handle, pattern="ERROR")
        assert (found["text"], found["matches"]) == ("7000: ERROR: disk full", 1)
        assert talk.call("read", handle=handle, pattern=r"^row 1\d{4}$")["matches"] == 10_000
        assert talk.read_all(handle, pattern=r"row 1999\d").count("\n") == 9
        nothing = talk.call("read", handle=handle, pattern="absent")
        assert (nothing["text"], nothing["matches"], nothing["next_offset"]) == ("", 0, None)


@pytest.mark.parametrize("pattern", ["(", "*", "[a", "a{99999999999}", "(?P<x>", "(" * 900])
def test_broken_pattern_is_explained(tmp_path: Path, pattern: str) -> None:
    """A pattern that is no regular expression names the argument and the way out."""
    with Kernel.open(tmp_path) as kernel:
        talk = Talk(kernel, threshold_bytes=1)
        handle = talk.add("tool", "text")["handle"]
        with pytest.raises(ArgumentError, match=r"argument 'pattern'.*backslash"):
            talk.call("read", handle=handle, pattern=pattern)


def test_pattern_that_backtracks_for_ever_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hostile pattern ends with an error and leaves the server alive."""
    monkeypatch.setattr("fmos_context.handles._PATTERN_SECONDS", 0.5)
    with Kernel.open(tmp_path) as kernel:
        talk = Talk(kernel, threshold_bytes=1)
        handle = talk.add("tool", "a" * 64 + "b")["handle"]
        with pytest.raises(ArgumentError, match="took longer"):
            talk.call("read", handle=handle, pattern="(a|a)*$")
        assert talk.call("read", handle=handle, pattern="b")["matches"] == 1


def test_handle_of_another_session_is_refused(tmp_path: Path) -> None:
    """A handle is read in its own session only, and another agent does not even see it."""
    with Kernel.open(tmp_path) as kernel:
        talk = Talk(kernel, threshold_bytes=10)
        handle = talk.add("tool", "something long enough")["handle"]
        with pytest.raises(PrincipalError, match="another session"):
            Talk(kernel, "s2").call("read", handle=handle)
        with pytest.raises(NotFoundError, match="no handle"):
            Talk(kernel, "s1", agent="b").call("read", handle=handle)


@pytest.mark.parametrize("handle", ["p0-0000000000", "p7-0123456789", "d0-0123456789", "", "../x"])
def test_unknown_handle_is_not_found(tmp_path: Path, handle: str) -> None:
    """A handle that was never given out says where handles come from."""
    with Kernel.open(tmp_path) as kernel:
        talk = Talk(kernel)
        talk.add("user", "hello")
        with pytest.raises(NotFoundError, match="take the handle from a stub"):
            talk.call("read", handle=handle)


@pytest.mark.parametrize("verb", ["append", "compose", "read"])
def test_session_must_be_open(tmp_path: Path, verb: str) -> None:
    """Calls for a session that was not opened, or for none, say what to do."""
    more = {"append": {"role": "user", "text": "x"}, "compose": {}, "read": {"handle": "p0"}}
    with Kernel.open(tmp_path) as kernel:
        tools = ContextTools(kernel)
        arguments = {**more[verb], "agent": "a"}
        with pytest.raises(NotFoundError, match="open it with context_open"):
            tools.call(f"context_{verb}", {**arguments, "session": "nope"})
        with pytest.raises(ArgumentError, match="'session' is missing"):
            tools.call(f"context_{verb}", arguments)


@pytest.mark.parametrize("session", ["../up", "a/b", "-x", "x" * 200])
def test_session_id_cannot_be_a_path(tmp_path: Path, session: str) -> None:
    """A session id that could leave its folder is refused by name."""
    with Kernel.open(tmp_path) as kernel, pytest.raises(ArgumentError, match="'session'"):
        Talk(kernel, session)


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    """Each unusable argument is named in the error."""
    with Kernel.open(tmp_path) as kernel:
        talk = Talk(kernel)
        handle = talk.add("tool", "x" * 9_000)["handle"]
        for verb, argument, value in (
            ("open", "max_tokens", 0),
            ("compose", "max_tokens", -1),
            ("read", "offset", 9_001),
            ("read", "limit", 0),
            ("append", "role", "robot"),
            ("append", "text", "lone \ud800"),
        ):
            given = {"append": {"role": "user", "text": "x"}, "read": {"handle": handle}}
            with pytest.raises(ArgumentError, match=argument):
                talk.call(verb, **{**given.get(verb, {}), argument: value})
        with pytest.raises(ArgumentError, match="'system' needs"):
            talk.call("open", system="word " * 100, max_tokens=20)


def test_opening_again_keeps_the_items(tmp_path: Path) -> None:
    """A session that is opened again, also by a new kernel, goes on where it was."""
    with Kernel.open(tmp_path) as kernel:
        Talk(kernel).add("user", "hello")
    with Kernel.open(tmp_path) as kernel:
        talk = Talk(kernel, system="new prompt", max_tokens=500)
        assert talk.opened == {
            "session": "s1",
            "max_tokens": 500,
            "threshold_bytes": 8_192,
            "items": 1,
        }
        assert _items(talk.call("compose")) == ["system", "i0"]


def test_session_without_a_name_gets_one(tmp_path: Path) -> None:
    """Opening without an id returns a fresh one that the other tools take."""
    with Kernel.open(tmp_path) as kernel:
        tools = ContextTools(kernel)
        first, second = (tools.call("context_open", {"agent": "a"})["session"] for _ in range(2))
        assert first != second
        assert tools.call("context_compose", {"agent": "a", "session": first})["messages"] == []


def test_context_follows_fork_and_restore(tmp_path: Path) -> None:
    """A fork goes on from its parent's context, handles included; a restore takes back items."""
    with Kernel.open(tmp_path) as kernel:
        talk = Talk(kernel, threshold_bytes=10)
        principal = Principal(agent="a")
        handle = talk.add("tool", "something long enough")["handle"]
        kernel.agent_fs(principal).snapshot("before")
        kernel.fork_agent(principal, "b")
        talk.add("user", "only a")
        other = Talk(kernel, agent="b", threshold_bytes=10)
        other.add("user", "only b")
        assert other.read_all(handle) == "something long enough"
        assert [m["text"] for m in other.call("compose")["messages"]][1:] == ["only b"]
        assert [m["text"] for m in talk.call("compose")["messages"]][1:] == ["only a"]
        kernel.agent_fs(principal).restore("before")
        assert _items(talk.call("compose")) == ["i0"]


def test_contract_limits_every_budget(tmp_path: Path) -> None:
    """A contract's max_context_tokens holds however much a session or a call asks for."""
    with Kernel.open(tmp_path) as kernel:
        (kernel.home.contracts / "a.yaml").write_text(
            "apiVersion: agentos/v0.2\nkind: AgentContract\nname: a\nclass: { latency: DT }\n"
            "modelPolicy: { max_context_tokens: 200 }\n",
            encoding="utf-8",
        )
        talk = Talk(kernel, max_tokens=5_000)
        assert talk.opened["max_tokens"] == 200
        for number in range(60):
            talk.add("user", f"message number {number}")
        assert talk.call("compose", max_tokens=5_000)["tokens"] <= 200
