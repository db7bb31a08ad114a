"""Keeping a trap table: every doubt about it means that everything traps, with one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fmos.audit.keys import AuditKeys
from fmos.clock import FixedClock
from fmos.contract.parse import load_text
from fmos.errors import ServerUnreachableError
from fmos.traps.keeper import TableKeeper
from fmos.traps.manifest import ToolDescriptor
from fmos.traps.table import TableVersions, TrapTable, compile_table, signed

_CONTRACT = """
apiVersion: agentos/v0.2
kind: AgentContract
name: ada
capabilities: [clock]
"""
_CLOCK = ToolDescriptor(name="clock", effect="read")


class _Server:
    """A server, its key, and one client's keeper, with both clocks in hand."""

    def __init__(self, folder: Path) -> None:
        self.keys = AuditKeys(folder)
        self.clock = FixedClock()
        self.client_clock = FixedClock()
        self.steady_ns = 0
        self.fetched = 0
        self.serial: int | None = None
        self.pinned: str | None = self.keys.public_key
        self.change: Callable[[dict[str, Any]], object] = lambda document: document
        self.contract = _CONTRACT
        self.keeper = TableKeeper(
            self._serve,
            lambda: self.pinned,
            tenant="default",
            agent="ada",
            clock=self.client_clock,
            steady_ns=lambda: self.steady_ns,
        )

    def table(self) -> TrapTable:
        """What the server compiles now."""
        contract = load_text(self.contract)
        return compile_table(contract, [_CLOCK], self.keys, self.clock, serial=self.serial)

    def pass_time(self, seconds: float) -> None:
        """Let every clock go on."""
        self.clock.advance(seconds)
        self.client_clock.advance(seconds)
        self.steady_ns += int(seconds * 1e9)

    def _serve(self) -> dict[str, Any]:
        self.fetched += 1
        document = self.table().model_dump(mode="json")
        self.change(document)
        return document


@pytest.fixture
def server(tmp_path: Path) -> _Server:
    """A server with one agent."""
    return _Server(tmp_path)


def _resigned(server: _Server, **update: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        table = TrapTable.model_validate(document).model_copy(update=update)
        document |= signed(table, server.keys).model_dump(mode="json")

    return change


def test_a_sound_table_is_fetched_once(server: _Server) -> None:
    """Within its lifetime nothing is asked again, and there is nothing to explain."""
    first = server.keeper.current()
    assert first is not None
    server.pass_time(59)
    assert server.keeper.current() is first
    assert server.fetched == 1
    assert server.keeper.new_problem() == ""


def test_an_expired_table_is_fetched_anew(server: _Server) -> None:
    """After its lifetime a new one takes its place."""
    server.keeper.current()
    server.pass_time(60)
    table = server.keeper.current()
    assert table is not None
    assert table.issued_ns == server.clock.now_ns()
    assert server.fetched == 2


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (lambda s: setattr(s, "pinned", None), "no public key"),
        (lambda s: setattr(s, "pinned", ""), "FMOS_PUBLIC_KEY"),
        (lambda s: setattr(s, "pinned", "rubbish"), "did not sign it"),
        (lambda s: setattr(s, "change", lambda d: d["rules"].clear()), "did not sign it"),
        (lambda s: setattr(s, "change", lambda d: d.update(signature=7)), "did not sign it"),
        (lambda s: setattr(s, "change", lambda d: d.update(abi=2)), "its abi is 2"),
        (lambda s: setattr(s, "change", lambda d: d.pop("abi")), "its abi is None"),
        (lambda s: setattr(s, "change", lambda d: d.update(abi=True)), "its abi is True"),
        (lambda s: setattr(s, "change", lambda d: d.clear()), "its abi is None"),
        (lambda s: setattr(s, "change", lambda d: d.update(later=1.5)), "cannot hold a float"),
        (lambda s: setattr(s, "change", _resigned(s, agent="eve")), "of the agent 'eve'"),
        (lambda s: setattr(s, "change", _resigned(s, tenant="x")), "of the tenant 'x'"),
        (lambda s: setattr(s, "change", _resigned(s, model="m" * 64)), "learned traps"),
        (lambda s: s.clock.advance(2), "in the future"),
        (lambda s: s.client_clock.advance(60), "expired"),
    ],
)
def test_every_doubt_traps_and_says_why_once(
    server: _Server, what: Callable[[_Server], object], says: str
) -> None:
    """A table that cannot be trusted is none; the reason names the way out and is told once."""
    what(server)
    assert server.keeper.current() is None
    told = server.keeper.new_problem()
    assert says in told
    assert "every operation traps" in told or "cannot hold" in told
    assert "; " in told
    assert server.keeper.new_problem() == ""


def test_another_homes_key_is_not_ours(server: _Server, tmp_path: Path) -> None:
    """A table signed by somebody else's key is refused, however well it is made."""
    other = tmp_path / "other"
    other.mkdir()
    server.pinned = AuditKeys(other).public_key
    assert server.keeper.current() is None


def test_a_document_that_is_signed_but_no_table_traps(server: _Server) -> None:
    """A signature does not make a wrong shape right."""
    from fmos.traps.wire import signed_bytes

    def change(document: dict[str, Any]) -> None:
        document["rules"] = [{"tool": 7}]
        document["signature"] = server.keys.sign(signed_bytes(document))

    server.change = change
    assert server.keeper.current() is None
    assert "cannot be read" in server.keeper.new_problem()


def test_a_field_of_a_later_version_is_ignored_but_signed(server: _Server) -> None:
    """A newer server may say more; its signature covers that too."""
    from fmos.traps.wire import signed_bytes

    def change(document: dict[str, Any]) -> None:
        document["later"] = {"more": [1]}
        document["signature"] = server.keys.sign(signed_bytes(document))

    server.change = change
    assert server.keeper.current() is not None


def test_a_replayed_table_traps(server: _Server) -> None:
    """A table with a lower serial than the last is refused, even while its time lasts."""
    server.serial = 8
    assert server.keeper.current() is not None
    server.serial = 7
    server.keeper.drop()
    assert server.keeper.current() is None
    assert "serial 7 after 8" in server.keeper.new_problem()
    server.serial = 8
    server.keeper.drop()
    assert server.keeper.current() is not None


def test_a_clock_set_back_does_not_revive_a_table(server: _Server) -> None:
    """The steady clock ends the lifetime that a clock set back would make longer."""
    server.keeper.current()
    server.pass_time(50)
    server.client_clock.advance(-40)
    server.clock.advance(-40)
    server.steady_ns += 9 * 10**9
    server.keeper.current()
    assert server.fetched == 1
    server.steady_ns += 10**9
    assert server.keeper.current() is not None
    assert server.fetched == 2


def test_with_the_clock_before_its_issue_a_table_is_not_used(server: _Server) -> None:
    """A clock set far back makes tables come from the future: everything traps."""
    server.keeper.current()
    server.steady_ns += 60 * 10**9
    server.client_clock.advance(-30)
    assert server.keeper.current() is None
    assert "in the future" in server.keeper.new_problem()


def test_a_clock_set_forward_expires_a_table(server: _Server) -> None:
    """The time of day ends the lifetime too, though hardly any time has passed."""
    server.keeper.current()
    server.client_clock.advance(3600)
    assert server.keeper.current() is None
    assert "expired" in server.keeper.new_problem()


def test_a_failed_fetch_is_not_repeated_at_every_call(server: _Server) -> None:
    """For a second every operation traps without asking; then it is tried again."""

    def fail(document: dict[str, Any]) -> None:
        raise ServerUnreachableError("cut off")

    server.change = fail
    for _ in range(5):
        assert server.keeper.current() is None
    assert server.fetched == 1
    assert server.keeper.new_problem() == "cut off"
    server.pass_time(1)
    assert server.keeper.current() is None
    assert server.fetched == 2
    assert server.keeper.new_problem() == ""
    server.change = lambda document: document
    server.pass_time(1)
    assert server.keeper.current() is not None
    assert server.keeper.new_problem() == ""


def test_an_answer_with_another_version_drops_the_table(server: _Server) -> None:
    """A changed contract counts at the next answer of the server, not after the lifetime."""
    before = server.keeper.current()
    assert before is not None
    for same in ("", None, before.version):
        server.keeper.answered(same)
    assert server.keeper.current() is before
    server.contract = _CONTRACT.replace("clock", "other")
    server.keeper.answered(server.table().version)
    after = server.keeper.current()
    assert after is not None
    assert after.version != before.version


def test_versions_are_those_of_the_tables_and_follow_every_cause(server: _Server) -> None:
    """What a verdict names is the version of the table that would be fetched now."""
    versions = TableVersions()

    def of(contract: str, tools: list[ToolDescriptor], private: list[str]) -> str:
        loaded = load_text(contract)
        named = {tool.name: tool for tool in tools}
        found = versions.of(loaded, named, agent="ada", private=private)
        made = compile_table(loaded, tools, server.keys, server.clock, agent="ada", private=private)
        assert made.version == found
        return found

    kinds = [
        (_CONTRACT, [_CLOCK], []),
        (_CONTRACT.replace("clock", "x"), [_CLOCK], []),
        (_CONTRACT, [], []),
        (_CONTRACT, [_CLOCK.model_copy(update={"effect": "write"})], []),
        (_CONTRACT, [_CLOCK], ["/home/u/.fmos"]),
    ]
    found = [of(*kind) for kind in (*kinds, *kinds)]
    assert found[:5] == found[5:]
    assert len(set(found)) == 5
