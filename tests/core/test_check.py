"""`fmos check`, the library: what is sensitive, what a table lets pass, how a leak is caught."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmos.audit.keys import AuditKeys
from fmos.check.advice import cautions, unkept, unmetered
from fmos.check.canary import CanarySession, drive_seams
from fmos.check.meters import metered
from fmos.check.model import Caution
from fmos.check.report import check_contract
from fmos.check.seams import Seam, seams_of, source_of
from fmos.check.sensitive import Nature, any_covers
from fmos.check.static import check_table
from fmos.client import Governor
from fmos.clock import FixedClock
from fmos.contract.globs import covers, normalise
from fmos.contract.model import AgentContract
from fmos.errors import NotFoundError
from fmos.traps.manifest import ToolDescriptor
from fmos.traps.table import TrapTable, compile_table
from fmos.types import (
    Operation,
    OperationClass,
    OperationKind,
    Outcome,
    OutcomeStatus,
)

HOME = "/home/ada/.fmos"
READ = ToolDescriptor(name="read_file", capability="fs.read", effect="read", roles={"path": "path"})
WRITE = ToolDescriptor(
    name="write_file", capability="fs.write", effect="write", roles={"path": "path"}
)


def contract(**fields: Any) -> AgentContract:
    """Return a contract that reads and writes in /work."""
    document: dict[str, Any] = {
        "apiVersion": "agentos/v0.2",
        "kind": "AgentContract",
        "name": "ada",
        "capabilities": ["fs.read", "fs.write"],
        "security": {"paths": {"read": ["/work/**"], "write": ["/work/**"]}},
    }
    return AgentContract.model_validate({**document, **fields})


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> AuditKeys:
    """Keys that sign the tables of this file."""
    return AuditKeys(tmp_path_factory.mktemp("keys"))


def table_of(
    keys: AuditKeys, under: AgentContract | None, tools: Sequence[ToolDescriptor]
) -> TrapTable:
    """Return the table that adapters of the agent would use."""
    return compile_table(under, tools, keys, FixedClock(), agent="ada", private=[HOME])


def broken(table: TrapTable, **change: Any) -> TrapTable:
    """Return a table of which the first rule says something else."""
    first, *others = table.rules
    return remade(table, rules=(first.model_copy(update=change), *others))


def remade(table: TrapTable, **change: Any) -> TrapTable:
    """Return a table that says something else; a copy would keep what was compiled."""
    return TrapTable.model_validate({**table.model_dump(), **change})


def test_table_of_an_ordinary_contract_has_no_gap(keys: AuditKeys) -> None:
    """Of a reading and a writing tool only the reading one runs at once, and only in its scope."""
    nature = Nature(contract(), (READ, WRITE), (HOME,))
    found = check_table(table_of(keys, nature.contract, nature.tools), nature)
    assert found.gaps == []
    classes = {each.name: each.operation_class for each in found.operations}
    assert classes["read_file"] is OperationClass.INNOCUOUS
    assert classes["write_file"] is OperationClass.PRIVILEGED
    assert {each.kind for each in found.operations} == set(OperationKind)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"operation_class": OperationClass.INNOCUOUS}, "its effect is 'write'"),
        ({"operation_class": OperationClass.INNOCUOUS, "path_arguments": ()}, "its effect"),
    ],
)
def test_flipped_rule_is_a_gap(keys: AuditKeys, change: dict[str, Any], said: str) -> None:
    """A table that calls one writing tool innocuous is found, with the tool and the reason."""
    nature = Nature(contract(), (WRITE,), (HOME,))
    table = broken(table_of(keys, nature.contract, nature.tools), **change)
    found = check_table(table, nature, file="tools.json")
    assert {gap.where for gap in found.gaps} == {"write_file"}
    assert said in found.gaps[0].reason
    assert found.gaps[0].file == "tools.json"


@pytest.mark.parametrize(
    "change",
    [
        {"read_scopes": (("/**",),)},
        {"path_arguments": ()},
    ],
)
def test_widened_rule_is_a_gap(keys: AuditKeys, change: dict[str, Any]) -> None:
    """A table that forgets the scope or the path argument of a reading tool is found."""
    nature = Nature(contract(), (READ,), (HOME,))
    table = broken(table_of(keys, nature.contract, nature.tools), **change)
    assert check_table(table, nature).gaps


def test_unprotected_table_is_a_gap(keys: AuditKeys) -> None:
    """With a scope of everything, a table without the protected paths lets the home be read."""
    wide = contract(security={})
    nature = Nature(wide, (READ,), (HOME,))
    table = table_of(keys, wide, nature.tools)
    assert check_table(table, nature).gaps == []
    open_ = remade(table, protected=(), guarded=())
    reasons = " ".join(gap.reason for gap in check_table(open_, nature).gaps)
    assert "/.fmos" in reasons
    assert HOME in reasons


def test_other_kinds_must_trap(keys: AuditKeys) -> None:
    """A table that judges memory writes by the names of tools is found."""
    nature = Nature(contract(), (READ,), (HOME,))
    table = table_of(keys, nature.contract, nature.tools)
    local = remade(table, local=tuple(OperationKind))
    kinds = {gap.kind for gap in check_table(local, nature).gaps}
    assert OperationKind.FS_WRITE in kinds


@pytest.mark.parametrize("kind", [OperationKind.TOOL_CALL, OperationKind.FS_READ])
def test_consent_for_a_kind_traps(keys: AuditKeys, kind: OperationKind) -> None:
    """A contract that wants consent for every operation of a kind lets none of it run at once."""
    asks = contract(security={"consent_for": [str(kind)]})
    reads = READ.model_copy(update={"capability": "fs.write"})
    nature = Nature(asks, (reads,), ())
    assert check_table(table_of(keys, asks, nature.tools), nature).gaps == []


def test_immortal_table_is_a_gap(keys: AuditKeys) -> None:
    """A table that lets calls pass after its time is found."""

    class Immortal(TrapTable):
        def classify(self, operation: Operation, now_ns: int) -> OperationClass:
            return super().classify(operation, self.issued_ns)

    nature = Nature(contract(), (READ,), ())
    table = Immortal.model_validate(table_of(keys, nature.contract, nature.tools).model_dump())
    assert "before the time" in check_table(table, nature).gaps[0].reason


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/work/a.txt", ""),
        (["/work/a.txt", "/b"], ""),
        ("a/b.txt", ""),
        ("/work/a/../b", "goes up"),
        ("/.fmos/memory/x", "reaches"),
        ("/.FMOS", "reaches"),
        ("/", "reaches"),
        (f"{HOME}/keys/audit.pem", "reaches"),
        ("/home/ada", "reaches"),
        ("/proc/self/environ", "reaches"),
        ("/%2efmos/x", "reaches"),
        (" /.fmos/x", "reaches"),
        ("/．fmos/x", "reaches"),
        ("~/x", "no plain path"),
        ("file:/work/a", "no plain path"),
        ("/work/*", "more than one way"),
        ("/work/$X", "more than one way"),
        ([], "is empty"),
        (None, "is no path"),
        ([["/work/a.txt"]], "is no path"),
    ],
)
def test_paths_that_make_a_read_sensitive(path: object, why: str) -> None:
    """With a scope of everything, only plain paths outside of the kernel's own are harmless."""
    nature = Nature(contract(security={}), (READ,), (HOME,))
    operation = Operation(kind=OperationKind.TOOL_CALL, name="read_file", arguments={"path": path})
    said = nature.why_sensitive(operation)
    assert why in said
    assert bool(said) is bool(why)


# -- the property: sensitive is a subset of privileged --------------------------------------------

_NAMES = st.sampled_from(["read_file", "search", "send", "fs.read", "note"])
_ROLES = st.dictionaries(
    st.sampled_from(["path", "other", "to", "q"]),
    st.sampled_from(["path", "path", "recipient", "command", "body", "url"]),
    max_size=3,
)
_TOOLS = st.lists(
    st.builds(
        ToolDescriptor,
        name=_NAMES,
        capability=st.sampled_from(["", "fs.read", "fs.write", "net", "note"]),
        effect=st.sampled_from(["read", "read", "read", "write", "execute", "send"]),
        roles=_ROLES,
    ),
    max_size=4,
)
_CONTRACTS = st.builds(
    lambda capabilities, consent, deny, globs: contract(
        capabilities=capabilities,
        security={"consent_for": consent, "deny": deny, "paths": {"read": globs}},
    ),
    st.lists(st.sampled_from(["fs.read", "search", "send", "net", "note", "read_file"])),
    st.lists(st.sampled_from(["search", "read_file", "note", "destructive"]), max_size=1),
    st.lists(st.sampled_from(["search", "net"]), max_size=1),
    st.sampled_from([["/**"], ["/work/**"], ["/work/*.txt", "/a?/**/x"], []]),
)
_PIECES = st.sampled_from(
    ["/", "..", ".", "work", "a.txt", "a1", "x", ".fmos", ".FMOS", "~", "%2e", "*", "$HOME",
     "file:", "\\", "\0", " ", "//", "proc", "/self/root", "dev", "ada", "home", "．fmos", "etc",
     "é", "{", "\n"]
)  # fmt: skip
_PATHS = st.lists(_PIECES, max_size=6).map("".join) | st.lists(_PIECES, max_size=4).map(
    lambda pieces: "/work/" + "/".join(pieces)
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | _PATHS | st.just(f"{HOME}/keys/audit.pem"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_PATHS, inner, max_size=2),
    max_leaves=4,
)
_OPERATIONS = st.builds(
    Operation,
    kind=st.sampled_from([OperationKind.TOOL_CALL, OperationKind.FS_READ, *OperationKind]),
    name=_NAMES,
    arguments=st.dictionaries(st.sampled_from(["path", "other", "to", "q", "new"]), _VALUES),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(under=st.none() | _CONTRACTS, tools=_TOOLS, operations=st.lists(_OPERATIONS, max_size=6))
def test_no_sensitive_operation_runs_at_once(
    keys: AuditKeys,
    under: AgentContract | None,
    tools: list[ToolDescriptor],
    operations: list[Operation],
) -> None:
    """Whatever contract, tools and arguments: what is sensitive by nature traps by the table."""
    nature = Nature(under, tools, (HOME,))
    table = table_of(keys, under, tools)
    for operation in operations:
        if table.classify(operation, table.issued_ns) is OperationClass.INNOCUOUS:
            assert nature.why_sensitive(operation) == ""


@settings(max_examples=150, deadline=None)
@given(
    glob=st.lists(st.sampled_from(["/", "**", "*", "?", "a", "ab", "."]), max_size=6).map("".join),
    path=st.lists(st.sampled_from(["/", "a", "b", "."]), max_size=6).map("".join),
)
def test_two_ways_to_match_a_glob_agree(glob: str, path: str) -> None:
    """The check's own matcher and that of the contracts cover the same paths."""
    plain = normalise(path)
    assert any_covers([glob], plain) is covers([glob], plain)


# -- warnings --------------------------------------------------------------------------------------


def codes(found: Sequence[Caution]) -> dict[str, str]:
    """Return the codes of warnings with where they are."""
    return {each.code: each.where for each in found}


def test_misspelt_capability_names_the_nearest() -> None:
    """`fs.wrte` is a warning that names `fs.write`."""
    found = list(cautions(contract(capabilities=["fs.read", "fs.wrte"]), (READ, WRITE)))
    by_code = {each.code: each for each in found}
    assert "fs.wrte" in by_code["capability.unused"].where
    assert "fs.write" in by_code["capability.unused"].hint
    assert by_code["tool.ungranted"].where == "write_file"


def test_tool_that_says_other_than_it_does_is_a_warning() -> None:
    """A reader whose name or schema says otherwise is named; a plain reader is not."""
    liar = ToolDescriptor(name="deleteFile", capability="fs.read", effect="read")
    schema = {"properties": {"targetUrl": {"format": "uri"}, "file_path": {}, "count": {}}}
    asks = ToolDescriptor(name="lookup", capability="fs.read", effect="read", input_schema=schema)
    reader = ToolDescriptor(name="get_email", capability="fs.read", effect="read")
    found = list(cautions(contract(capabilities=["fs.read"]), (liar, asks, reader)))
    said = [(each.where, each.reason) for each in found if each.code == "tool.contradicts"]
    assert [where for where, _ in said] == ["deleteFile", "lookup", "lookup"]
    assert "'delete'" in said[0][1]


def test_two_descriptors_of_a_name_trap_and_are_named(keys: AuditKeys) -> None:
    """Two tools of one name are a warning, and every call of the name traps."""
    other = ToolDescriptor(name="read_file", capability="fs.read", effect="execute")
    report = check_contract(contract(), (READ, other, WRITE))
    assert codes(report.warnings)["tool.twice"] == "read_file"
    (finding,) = [each for each in report.operations if each.name == "read_file"]
    assert finding.operation_class is OperationClass.PRIVILEGED


def test_promises_that_nothing_keeps_are_named() -> None:
    """What a contract declares beyond the defaults and nothing enforces is a warning each."""
    promised = contract(
        memory={"namespace": "n", "retention_days": 3, "rag": {"require_grounding": True}},
        compute={"cpu": "1"},
    )
    assert {each.where for each in unkept(promised)} == {
        "memory.namespace", "memory.retention_days", "memory.rag.require_grounding",
        "compute.cpu",
    }  # fmt: skip
    assert list(unkept(contract())) == []


def test_limit_that_nothing_meters_is_a_warning() -> None:
    """Whether a limit binds is tried: a limit of 0 tokens refuses a model call."""
    found = metered(["tokens", "verifier_runs", "memory_writes"])
    assert found == {"tokens", "memory_writes"}
    limited = contract(budgets={"tokens": 5, "verifier_runs": 1})
    assert [each.where for each in unmetered(limited, found)] == ["budgets.verifier_runs"]


@pytest.mark.parametrize("field", ["", "agent", "per_day"])
def test_where_calls_are_limited_none_runs_at_once(field: str) -> None:
    """A call spends of a limit of tool calls, so with one even a harmless call traps."""

    def class_under(budgets: dict[str, Any]) -> OperationClass:
        report = check_contract(contract(budgets=budgets), (READ,))
        assert report.gaps == ()
        return next(each for each in report.operations if each.name == READ.name).operation_class

    limit = {"tool_calls": 3}
    assert class_under({field: limit} if field else limit) is OperationClass.PRIVILEGED
    assert class_under({"tokens": 3}) is OperationClass.INNOCUOUS


# -- canaries: the check itself is checked ---------------------------------------------------------


def governed(session: CanarySession, leak: int = 0, late: bool = False) -> None:
    """Be an adapter that runs the calls of a model; every `leak`-th call it runs unasked."""
    governor = Governor(session.client)
    governor.register_tools(session.descriptors)
    governor.open_session("")
    tools = {tool.name: tool for tool in session.tools.values()}
    for number, call in enumerate(session.calls(), 1):
        operation = Operation(
            id=call.id,
            kind=OperationKind.TOOL_CALL,
            name=call.tool,
            arguments=call.arguments,
            principal=session.principal,
        )
        if leak and number % leak == 0:
            tools[call.tool].run(**call.arguments)
            continue
        if late and call.expect == "run":
            tools[call.tool].run(**call.arguments)
        verdict = governor.before_tool(operation)
        if verdict.allowed:
            said = "" if late else tools[call.tool].run(**call.arguments)
            done = Outcome(operation=operation.id, status=OutcomeStatus.OK)
            governor.after_tool(operation, done, said)
    governor.flush()


def drive(act: Any, **fields: Any) -> Any:
    """Drive one seam and return its finding."""
    seam = Seam("run", source_of(governed), OperationKind.TOOL_CALL, act, **fields)
    results = drive_seams("fake", [seam], accept=fields.pop("accept", ()))
    return results.seams[0], results


def test_honest_adapter_has_no_gap() -> None:
    """An adapter that asks for every call is intercepted at every canary."""
    seam, results = drive(governed)
    assert (seam.status, seam.reason) == ("intercepted", "")
    assert seam.canaries == 5
    assert results.gaps == []


@pytest.mark.parametrize("leak", [1, 2, 3])
def test_leaky_adapter_is_caught(leak: int) -> None:
    """An adapter that runs every n-th tool directly is a gap with its file and line."""
    seam, results = drive(lambda session: governed(session, leak=leak))
    assert seam.status == "bypassed"
    assert "ran" in seam.reason
    (gap,) = results.gaps
    assert gap.where == "fake.run"
    file, _, line = gap.file.rpartition(":")
    assert Path(file).name == "test_check.py"
    assert int(line) > 1


def test_adapter_that_asks_afterwards_is_caught() -> None:
    """A privileged tool that ran before its row was written has bypassed the gate."""
    seam, _ = drive(lambda session: governed(session, late=True))
    assert seam.status == "bypassed"
    assert "canary_writes" in seam.reason
    assert "canary_reads" not in seam.reason


def asked_then(session: CanarySession, role: Any, expect: Any, act: Any) -> None:
    """Ask the gate for one call, and then do `act` with the tool and the call."""
    governor = Governor(session.client)
    governor.register_tools(session.descriptors)
    call = session.call(role, expect)
    operation = Operation(
        id=call.id, kind=OperationKind.TOOL_CALL, name=call.tool, arguments=call.arguments
    )
    governor.before_tool(operation)
    act(governor, session.tools[role], call)


def test_tool_that_runs_with_other_arguments_is_caught() -> None:
    """The row must allow exactly what ran."""

    def other(_: Governor, tool: Any, call: Any) -> None:
        tool.run(path="/elsewhere", nonce=call.arguments["nonce"])

    seam, _ = drive(lambda s: asked_then(s, "writes", "run", other))
    assert seam.status == "bypassed"


def test_tool_that_is_never_settled_is_caught() -> None:
    """What ran must have an outcome at the end."""
    seam, _ = drive(
        lambda s: asked_then(s, "writes", "run", lambda _, tool, call: tool.run(**call.arguments))
    )
    assert (seam.status, "never settled" in seam.reason) == ("failed", True)


def test_tool_that_must_be_refused_and_was_allowed_is_caught() -> None:
    """A gate that allows what the contract of the check does not is found as well."""

    def settled(governor: Governor, tool: Any, call: Any) -> None:
        tool.run(**call.arguments)
        outcome = Outcome(operation=call.id, status=OutcomeStatus.OK)
        governor.client.call("trust_settle", {"outcome": outcome.model_dump(mode="json")})

    seam, _ = drive(lambda s: asked_then(s, "writes", "refuse", settled))
    assert seam.status == "bypassed"
    assert seam.reason.endswith("ran although the contract does not allow it")


def test_call_that_never_comes_before_the_gate_proves_nothing() -> None:
    """A forbidden tool that nobody asked for has not been refused."""
    seam, _ = drive(lambda session: session.call("forbidden", "refuse"))
    assert (seam.status, "never came before the gate" in seam.reason) == ("failed", True)


def test_model_that_was_not_admitted_is_caught() -> None:
    """A model that runs without an admission is a gap."""
    seam, _ = drive(lambda session: session.model_ran())
    assert seam.status == "bypassed"
    assert "model.generate" in seam.reason


def test_drive_that_does_nothing_proves_nothing() -> None:
    """A drive without a canary, or one that fails, is a gap and not a proof."""
    seam, _ = drive(lambda session: None)
    assert seam.status == "failed"
    assert "proves nothing" in seam.reason
    seam, _ = drive(lambda session: session.call("writes", "run"))
    assert (seam.status, "did not run" in seam.reason) == ("failed", True)
    seam, _ = drive(lambda session: 1 / 0)
    assert "ZeroDivisionError" in seam.reason


def test_declared_gap_counts_until_it_is_accepted() -> None:
    """What an adapter declares is a gap by default; accepted it is none; closed it is a warning."""

    def leaks(session: CanarySession) -> None:
        governed(session, leak=1)

    fields: dict[str, Any] = {"intercepts": False, "reason": "cannot", "hint": "do other"}
    seam = Seam("run", source_of(governed), OperationKind.TOOL_CALL, leaks, **fields)
    declared = drive_seams("fake", [seam])
    assert [gap.hint for gap in declared.gaps] == ["do other"]
    accepted = drive_seams("fake", [seam], accept=["fake.*"])
    assert (accepted.seams[0].status, accepted.gaps) == ("accepted", [])
    honest = Seam("run", source_of(governed), OperationKind.TOOL_CALL, governed, **fields)
    closed = drive_seams("fake", [honest])
    assert codes(closed.warnings) == {"seam.closed": "fake.run"}


def test_real_bypass_cannot_be_accepted() -> None:
    """Only what an adapter declares can be accepted."""
    seam = Seam("run", source_of(governed), OperationKind.TOOL_CALL, lambda s: governed(s, leak=3))
    assert drive_seams("fake", [seam], accept=["*"]).gaps


def test_unknown_adapter_names_those_that_are_there() -> None:
    """An adapter that nobody registered is an error with the names of the others."""
    with pytest.raises(NotFoundError, match="langgraph"):
        seams_of("nosuch")


def test_servers_refuse_an_agent_without_a_contract() -> None:
    """What changes or spends something is refused where no contract grants it."""
    found = drive_seams("services", seams_of("services"))
    assert {seam.name: seam.status for seam in found.seams} == {
        "without_contract.budget_admit": "intercepted",
        "without_contract.trust_check": "intercepted",
        "without_contract.memory_write": "intercepted",
    }


def test_server_that_asks_no_contract_is_a_gap_with_its_file() -> None:
    """Each server's seam names where its tool is written."""
    files = {seam.name: seam.file for seam in seams_of("services")}
    assert files["without_contract.memory_write"].startswith("fmos_memory/tools.py:")
    assert files["without_contract.budget_admit"].startswith("fmos_budget/tools.py:")
