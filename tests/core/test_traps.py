"""The trap table: what runs at once, and every doubt that traps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fmos.audit.keys import AuditKeys
from fmos.clock import FixedClock
from fmos.contract.parse import load_text
from fmos.traps.manifest import ToolDescriptor
from fmos.traps.table import TrapRule, TrapTable, compile_table
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
    assert table.issued_ns % 10**9 == 0
    assert table.expires_ns - table.issued_ns == 60 * 10**9


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


@pytest.mark.parametrize(
    "path",
    [
        *("/home/u/.fmos", "/home/u/.fmos/keys/audit.pem", "/HOME/u/.Fmos/x", "home/u/.fmos/x"),
        *("~/.fmos/keys/audit.pem", "~root/x", "file:///home/u/.fmos/x", "file:/x", "C:/x"),
        *("/proc/self/root/home/u/.fmos/x", "/proc/1/root", "/dev/fd/3", "proc/self/root/x"),
        *("/x/../home/u/.fmos/k", "../.fmos/keys", "a/.fmos/k", "/", "/home", "/home/u", "/home/"),
        *("/home/u/.fm*s/keys", "/home/u/.fm?s", "/home/u/[.]fmos", "/{home,x}/u", "$HOME/.fmos"),
        *(
            "/home%2fu/.fmos",
            "/home\\u",
            "/a\0b",
            " /home/u/x",
            "/x\n",
            "/cafe\u0301",
            "\uff0fhome/u",
        ),
    ],
)
def test_no_spelling_of_the_home_is_innocuous(tmp_path: Path, path: str) -> None:
    """The home, every other way to it, and what a tool might read as one traps (finding 3)."""
    contract = load_text(CONTRACT.replace("/src/**", "/**"))
    keys, clock = AuditKeys(tmp_path), FixedClock()
    table = compile_table(contract, TOOLS, keys, clock, private=["/home/u/.fmos"])
    now_ns = clock.now_ns()
    assert table.classify(_call("read", path=path), now_ns) is OperationClass.PRIVILEGED
    assert table.classify(_call("read", path=["/x", path]), now_ns) is OperationClass.PRIVILEGED
    for plain in ("/home/u/x", "/home/v", "/homes", "/.fmosx", "/caf\u00e9 au lait"):
        assert table.classify(_call("read", path=plain), now_ns) is OperationClass.INNOCUOUS


def test_no_argument_may_name_the_home(tmp_path: Path) -> None:
    """A guarded path in any text, key or depth of another argument is a doubt."""
    keys, clock = AuditKeys(tmp_path), FixedClock()
    table = compile_table(load_text(CONTRACT), TOOLS, keys, clock, private=["/home/u/.fmos"])
    now_ns = clock.now_ns()
    for value in ("cat /HOME/u/.fmos/keys", {"a": ["~/.fmos"]}, {"/.fmos": 1}, b"raw", {1, 2}):
        assert table.classify(_call("clock", zone=value), now_ns) is OperationClass.PRIVILEGED
    for value in ("UTC", 7, None, True, 1.5, ["a", {"b": None}]):
        assert table.classify(_call("clock", zone=value), now_ns) is OperationClass.INNOCUOUS


def test_a_path_must_be_in_every_scope(tmp_path: Path) -> None:
    """Scopes of several layers narrow each other; an empty one leaves nothing."""
    rule = TrapRule(
        tool="read",
        operation_class=OperationClass.INNOCUOUS,
        path_arguments=("path",),
        read_scopes=(("/work/**",), ("/work/a/**", "/b")),
    )
    whole = compile_table(load_text(CONTRACT), TOOLS, AuditKeys(tmp_path), FixedClock())

    def passes(path: str, scopes: tuple[tuple[str, ...], ...]) -> bool:
        rules = (rule.model_copy(update={"read_scopes": scopes}),)
        table = whole.model_copy(update={"rules": rules})
        found = table.classify(_call("read", path=path), table.issued_ns)
        return found is OperationClass.INNOCUOUS

    assert rule.read_paths == ("/work/**", "/work/a/**", "/b")
    for path, expected in (("/work/a/x", True), ("/work/b", False), ("/b", False)):
        assert passes(path, rule.read_scopes) is expected
    assert not passes("/work/a/x", (*rule.read_scopes, ()))
    assert not passes("/work/a/x", ())


def test_a_table_says_who_owns_each_kind_and_what_it_was_made_of(tmp_path: Path) -> None:
    """Every kind has an owner; the digests follow contract and tools, the serial the argument."""
    keys, clock, contract = AuditKeys(tmp_path), FixedClock(), load_text(CONTRACT)
    table = compile_table(contract, TOOLS, keys, clock, tenant="t", serial=41)
    assert set(table.owners) == set(OperationKind)
    assert (table.tenant, table.agent, table.serial) == ("t", "a", 41)
    assert table.contract == contract.digest
    assert compile_table(contract, TOOLS, keys, clock).serial == clock.now_ns() // 10**6
    assert compile_table(contract, TOOLS[1:], keys, clock).manifest != table.manifest
    assert table.signals.sensitive == ("mail.read",)


def test_a_remembered_path_gets_the_same_answer(tmp_path: Path) -> None:
    """Asked again, and after more paths than are remembered, every answer is what it was."""
    table = _table(tmp_path)
    paths = [f"/{'src' if number % 2 else 'etc'}/{number}" for number in range(5000)]

    def ask() -> list[bool]:
        now_ns = table.issued_ns
        found = [table.classify(_call("read", path=path), now_ns) for path in paths]
        return [each is OperationClass.INNOCUOUS for each in found]

    assert ask() == ask() == [number % 2 == 1 for number in range(5000)]
    assert all(len(scope.known) <= 4096 for _, scope in table.matcher.tools.values())
