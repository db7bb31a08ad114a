"""An intent that cannot be written, and what commands and tools say about a journal."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fmos.audit.record import record_intent, record_outcome
from fmos.audit.verify import verify
from fmos.client import connect
from fmos.runtime.kernel import Kernel
from fmos.types import (
    Decision,
    Operation,
    OperationKind,
    Outcome,
    OutcomeStatus,
    Principal,
    Verdict,
)
from fmos_cli.main import app
from fmos_trust.tools import TrustTools

WHO = Principal(agent="ada", session="s1")
CONTRACT = """\
apiVersion: agentos/v0.2
kind: AgentContract
name: ada
class: { latency: SRT }
capabilities: [ "process.run" ]
"""
TOOL = {"name": "run", "capability": "process.run", "effect": "execute"}

# The agent's side: an operation runs only after an answer that allows it. A pipe has no size limit.
_RUN_UNTIL_FULL = """
import resource, sys
from pathlib import Path
from fmos.client import connect
from fmos.types import Principal, new_id

home = Path(sys.argv[1])
with connect(Principal(agent="ada", session="s1"), home=home, transport="inprocess") as client:
    def ask():
        asked = {"kind": "tool.call", "name": "run", "arguments": {"n": 1}, "id": new_id()}
        verdict = client.call("trust_check", {"operation": asked})
        if verdict["decision"] == "allow":
            print(asked["id"], flush=True)
    ask()
    room = (home / "tenants/default.afs-wal").stat().st_size + 40_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    try:
        for _ in range(500):
            ask()
    except Exception as error:
        print(type(error).__name__, error, file=sys.stderr)
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a contract and a tool."""
    folder = tmp_path / "home"
    (folder / "contracts").mkdir(parents=True)
    (folder / "contracts/ada.yaml").write_text(CONTRACT, encoding="utf-8")
    with connect(WHO, home=folder, transport="inprocess") as client:
        client.call("trust_register_tools", {"tools": [TOOL]})
    return folder


def test_nothing_runs_whose_intent_finds_no_space(home: Path) -> None:
    """A full disk ends with an error, and each operation that ran has its intent."""
    with Kernel.open(home) as kernel:  # the volume's log is the largest file, and so full first
        fs = kernel.agent_fs(WHO)
        with fs.transaction():
            for number in range(1500):
                fs.record("op.note", {"id": f"n{number}", "text": "x" * 200})
        done = subprocess.run(
            [sys.executable, "-c", _RUN_UNTIL_FULL, str(home)],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    ran = done.stdout.split()
    assert done.stderr, "the disk was never full"
    assert 0 < len(ran) < 500
    assert "grow" in done.stderr or "space" in done.stderr or "full" in done.stderr
    with Kernel.open(home) as kernel:
        rows = kernel.volume("default").journal(operation="op.intent")
        noted = {row.detail["id"] for row in rows if row.detail["decision"] == "allow"}
        assert set(ran) <= noted
        assert verify(kernel, "default").ok


def _intend(kernel: Kernel, who: Principal, count: int) -> list[Operation]:
    made: list[Operation] = []
    for _ in range(count):
        operation = Operation(kind=OperationKind.TOOL_CALL, name="run", principal=who)
        record_intent(kernel, operation, Verdict(operation=operation.id, decision=Decision.DENY))
        record_outcome(kernel, who, Outcome(operation=operation.id, status=OutcomeStatus.DENIED))
        made.append(operation)
    return made


def test_an_agent_reads_its_own_events_only(kernel: Kernel) -> None:
    """Rows of other agents, applications and sessions, and of the file system, are not told."""
    others = [
        Principal(agent="bob", session="s1"),
        Principal(application="crm", agent="ada", session="s1"),
        Principal(agent="ada", session="s2"),
        Principal(tenant="acme", agent="ada", session="s1"),
    ]
    for who in others:
        _intend(kernel, who, 2)
    own = _intend(kernel, WHO, 3)
    kernel.agent_fs(WHO).write("/a", b"x")
    tools = TrustTools(kernel, WHO)
    answer: Any = tools.call("audit_query", {})
    assert [row["kind"] for row in answer["rows"]] == ["op.intent", "op.outcome"] * 3
    assert {row["detail"]["id"] for row in answer["rows"]} == {each.id for each in own}
    one = tools.call("audit_query", {"operation": own[1].id, "kind": "op.intent"})
    assert len(one["rows"]) == 2
    foreign = Operation(kind=OperationKind.TOOL_CALL, name="x", principal=others[0])
    record_intent(kernel, foreign, Verdict(operation=foreign.id, decision=Decision.DENY))
    assert tools.call("audit_query", {"operation": foreign.id})["rows"] == []
    stranger = TrustTools(kernel, Principal(agent="eve", session="s1"))
    assert stranger.call("audit_query", {})["rows"] == []


def test_an_agent_can_check_the_newest_rows(kernel: Kernel) -> None:
    """The answer is yes until a row is changed, and says what it cannot see."""
    _intend(kernel, WHO, 3)
    tools = TrustTools(kernel, WHO)
    answer = tools.call("audit_verify", {})
    assert (answer["ok"], answer["first_bad"]) == (True, None)
    assert answer["unseen"]
    _change_row(kernel.home.path, 4)
    answer = tools.call("audit_verify", {})
    assert (answer["ok"], answer["first_bad"]) == (False, 4)


def _change_row(home: Path, seq: int) -> None:
    with sqlite3.connect(home / "tenants/default.afs") as raw:
        raw.execute("UPDATE journal SET branch = 'other' WHERE seq = ?", (seq,))
    raw.close()


def _fmos(home: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["--home", str(home), "audit", *arguments])
    return done.exit_code, done.output


def test_commands_tell_good_from_bad_by_their_exit_code(home: Path, tmp_path: Path) -> None:
    """0 is whole, 20 is not as it was written; JSON says the same."""
    with Kernel.open(home) as kernel:
        operation = _intend(kernel, WHO, 5)[2].id
    code, printed = _fmos(home, "checkpoint", "--print")
    assert code == 0
    (tmp_path / "kept").write_text(printed)
    assert _fmos(home, "rotate", "--yes")[0] == 0
    (tmp_path / "proof.json").write_text(_fmos(home, "prove", "--operation", operation)[1])
    assert _fmos(home, "export", "--to", str(tmp_path / "a.jsonl"))[0] == 0
    (tmp_path / "newer").write_text(_fmos(home, "checkpoint", "--print")[1])
    between = ("--between", str(tmp_path / "kept"), "--between", str(tmp_path / "newer"))
    (tmp_path / "both.json").write_text(_fmos(home, "prove", *between)[1])
    checks = [
        ("--checkpoint", str(tmp_path / "kept")),
        ("--proof", str(tmp_path / "proof.json")),
        ("--proof", str(tmp_path / "both.json")),
        ("--export", str(tmp_path / "a.jsonl")),
        ("--proof", str(tmp_path / "proof.json"), "--key", str(home / "keys/default/audit.pub")),
    ]
    for each in checks:
        code, printed = _fmos(home, "verify", *each, "--json")
        assert (code, json.loads(printed)["ok"]) == (0, True)
    assert _fmos(home, "verify")[1].startswith("ok: ")
    for name in ("proof.json", "both.json", "a.jsonl"):
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text.replace("1", "2", 1) if name != "a.jsonl" else text[:-9])
    _change_row(home, 4)
    for each in checks:
        code, printed = _fmos(home, "verify", *each, "--json")
        assert (code, json.loads(printed)["ok"]) == (20, False)
    assert _fmos(home, "verify")[1].startswith("BAD: ")


def test_commands_name_what_is_not_there(home: Path, tmp_path: Path) -> None:
    """A tenant, row or file that is not there is an error with a way out, and nothing is made."""
    for arguments, code, said in [
        (("verify", "--tenant", "nobody"), 8, "no tenant 'nobody'"),
        (("checkpoint", "--tenant", "nobody"), 8, "there are default"),
        (("prove", "99999"), 8, "no row 99999"),
        (("prove",), 5, "name what to prove"),
        (("verify", "--checkpoint", str(tmp_path / "x")), 5, "cannot read"),
        (("verify", "--proof", str(tmp_path / "x")), 5, "cannot read"),
        (("export", "--to", str(tmp_path / "no" / "x")), 5, "there is no folder"),
        (("export", "--to", "x", "--since", "9", "--until", "3"), 5, "range has no rows"),
    ]:
        found, printed = _fmos(home, *arguments)
        assert (found, said in printed) == (code, True), printed
    (tmp_path / "x").write_text("no note")
    assert _fmos(home, "verify", "--checkpoint", str(tmp_path / "x"))[0] == 13
    assert not (home / "tenants/nobody.afs").exists()


def test_rows_are_shown_with_filters(home: Path) -> None:
    """A line per row, oldest first, or JSON; no rows is said."""
    with Kernel.open(home) as kernel:
        _intend(kernel, WHO, 3)
    code, printed = _fmos(home, "show", "--agent", "ada", "--kind", "op.intent", "--last", "2")
    assert code == 0
    assert [line.split()[4:] for line in printed.splitlines()] == [
        ["op.intent", "tool.call", "run", "deny"]
    ] * 2
    rows = json.loads(_fmos(home, "show", "--session", "s1", "--json")[1])["rows"]
    assert rows[-1]["detail"]["status"] == "denied"
    assert _fmos(home, "show", "--agent", "nobody")[1] == "no rows\n"
    assert json.loads(_fmos(home, "checkpoint", "--json")[1])["row"] == rows[-1]["seq"]
    assert _fmos(home, "checkpoint", "--due")[1] == "checkpoints signed: 0\n"


def test_commands_refuse_what_they_would_lose_or_ignore(home: Path, tmp_path: Path) -> None:
    """No key goes without a person, no file without --force, no option without effect."""
    with Kernel.open(home) as kernel:
        _intend(kernel, WHO, 2)
    target, proof = str(tmp_path / "a.jsonl"), str(tmp_path / "p.json")
    assert _fmos(home, "rotate")[0] == 11
    assert _fmos(home, "export", "--to", target)[0] == 0
    assert _fmos(home, "export", "--to", target)[0] == 5
    assert _fmos(home, "export", "--to", target, "--force", "--since", "7d")[0] == 0
    assert _fmos(home, "export", "--to", str(tmp_path / "no" / "a"))[0] == 5
    assert _fmos(home, "show", "--until", "2020-01-01")[1] == "no rows\n"
    assert _fmos(home, "prove", "0")[0] == 2
    Path(proof).write_text(_fmos(home, "prove", "1")[1])
    assert _fmos(home, "verify", "--proof", proof, "--export", target)[0] == 2
    assert _fmos(home, "verify", "--key", "x")[0] == 2
    assert _fmos(home, "verify", "--proof", str(tmp_path / "none"))[0] == 5
    code, said = _fmos(home, "verify", "--proof", proof, "--key", "nonsense")
    assert (code, "audit.pub" in said) == (5, True)
    with Kernel.open(home) as kernel:
        kernel.agent_fs(Principal(tenant="acme", agent="x"))
    code, said = _fmos(home, "verify", "--proof", proof, "--tenant", "acme")
    assert (code, "'default'" in said, "--tenant" in said) == (20, True, True)
