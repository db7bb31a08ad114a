"""The trap table: what runs at once, and every doubt that traps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fmos.audit.keys import AuditKeys
from fmos.clock import FixedClock
from fmos.contract.parse import load_text
from fmos.traps.manifest import ToolDescriptor
from fmos.traps.table import TrapTable, compile_table
from fmos.types import Operation, OperationClass, OperationKind

CONTRACT = """
apiVersion: agentos/v0.2
kind: AgentContract
name: a
capabilities: [fs.read, fs.write, clock, web.fetch, mail.read, search]
security: { consent_for: [mail.read], paths: { read: ["/src/**"] } }
"""
READ = ToolDescriptor(name="read", capability="fs.read", effect="read", roles={"path": "path"})
TOOLS = (
    READ,
    ToolDescriptor(name="write", capability="fs.write", effect="write", roles={"path": "path"}),
    ToolDescriptor(name="fetch", capability="web.fetch", effect="read", roles={"url": "url"}),
    ToolDescriptor(name="inbox", capability="mail.read", effect="read"),
    ToolDescriptor(name="undeclared", effect="read"),
    ToolDescriptor(name="tree", capability="fs.read", effect="read"),
    ToolDescriptor(name="clock", effect="read"),
    ToolDescriptor(name="search", effect="read"),
    ToolDescriptor(name="search", effect="write"),
)


def _table(tmp_path: Path, clock: FixedClock | None = None) -> TrapTable:
    return compile_table(load_text(CONTRACT), TOOLS, AuditKeys(tmp_path), clock or FixedClock())


def _call(name: str, kind: OperationKind = OperationKind.TOOL_CALL, **arguments: Any) -> Operation:
    return Operation(kind=kind, name=name, arguments=arguments)


@pytest.mark.parametrize(
    ("call", "innocuous"),
    [
        (_call("read", path="/src/a.py"), True),
        (_call("read", path="src/a.py"), True),
        (_call("read", path=["/src/a", "/src/b"]), True),
        (_call("read", OperationKind.FS_READ, path="/src"), True),
        (_call("clock"), True),
        (_call("read", path="/src/../etc/passwd"), False),
        (_call("read", path="//etc/passwd"), False),
        (_call("read", path=["/src/a", "/etc/b"]), False),
        (_call("read", path=""), False),
        (_call("read", path="/src/a\0"), False),
        (_call("read", path=7), False),
        (_call("read"), False),
        (_call("read", OperationKind.MODEL_GENERATE, path="/src/a"), False),
        (_call("read", OperationKind.MEMORY_WRITE, path="/src/a"), False),
        (_call("write", path="/src/a"), False),
        (_call("fetch", url="https://a.example"), False),
        (_call("inbox"), False),
        (_call("undeclared"), False),
        (_call("tree"), False),
        (_call("search"), False),
        (_call("never_registered"), False),
    ],
)
def test_only_plainly_harmless_calls_are_innocuous(
    tmp_path: Path, call: Operation, innocuous: bool
) -> None:
    """Scope, effect, consent, capability and manifest must all say so; else the call traps."""
    found = _table(tmp_path).classify(call, FixedClock().now_ns())
    assert (found is OperationClass.INNOCUOUS) is innocuous
    assert found is not OperationClass.SENSITIVE


def test_the_system_area_is_never_innocuous(tmp_path: Path) -> None:
    """A contract that may read everything may still not read the kernel's own files."""
    contract = load_text(CONTRACT.replace("/src/**", "/**"))
    table = compile_table(contract, [READ], AuditKeys(tmp_path), FixedClock())
    now_ns = FixedClock().now_ns()
    for path, expected in (
        ("/.fmos/memory/x", OperationClass.PRIVILEGED),
        ("/src/../.fmos", OperationClass.PRIVILEGED),
        ("/.fmosx", OperationClass.INNOCUOUS),
    ):
        assert table.classify(_call("read", path=path), now_ns) is expected


def test_a_table_counts_only_in_its_time(tmp_path: Path) -> None:
    """An expired table, and one from the future, means that everything traps."""
    clock = FixedClock()
    table = _table(tmp_path, clock)
    call = _call("read", path="/src/a")
    assert table.classify(call, table.expires_ns - 1) is OperationClass.INNOCUOUS
    assert table.classify(call, table.expires_ns) is OperationClass.PRIVILEGED
    assert table.classify(call, table.issued_ns - 1) is OperationClass.PRIVILEGED
    assert table.expires_ns - table.issued_ns == 300 * 10**9


def test_the_signature_covers_the_whole_table(tmp_path: Path) -> None:
    """A table survives its JSON form; a changed rule or a longer life breaks the signature."""
    key = AuditKeys(tmp_path).public_key
    table = _table(tmp_path)
    arrived = TrapTable.model_validate_json(table.model_dump_json())
    assert arrived == table
    assert arrived.is_signed_by(key)
    assert not table.model_copy(update={"expires_ns": table.expires_ns + 1}).is_signed_by(key)
    assert not table.model_copy(update={"rules": table.rules[:1]}).is_signed_by(key)
    assert not table.model_copy(update={"signature": ""}).is_signed_by(key)


def test_the_version_names_the_rules(tmp_path: Path) -> None:
    """Compiled again it has the same version; with another tool or agent it has another."""
    keys, clock, contract = AuditKeys(tmp_path), FixedClock(), load_text(CONTRACT)
    first = compile_table(contract, TOOLS, keys, clock)
    clock.advance(60)
    assert compile_table(contract, reversed(TOOLS[:7]), keys, clock).version != first.version
    assert compile_table(contract, TOOLS, keys, clock).version == first.version
    assert compile_table(contract, TOOLS, keys, clock, agent="fork").version != first.version


def test_without_a_contract_every_call_traps(tmp_path: Path) -> None:
    """An agent that declared nothing may do nothing without being asked."""
    table = compile_table(None, TOOLS, AuditKeys(tmp_path), FixedClock(), agent="x")
    call = _call("read", path="/src/a")
    assert table.agent == "x"
    assert table.classify(call, table.issued_ns) is OperationClass.PRIVILEGED


def test_a_tools_capability_is_its_name_by_default() -> None:
    """A descriptor without a capability needs the capability of its own name."""
    assert ToolDescriptor(name="clock", effect="read").capability == "clock"
    assert READ.arguments_of("path") == ("path",)
