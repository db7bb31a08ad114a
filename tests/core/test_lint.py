"""Lint: what it says about documents that are wrong, or valid and probably not meant so."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fmos.contract.lint import Report, lint_text
from fmos.contract.parse import load_text
from fmos.contract.promises import declared, enforced_by
from fmos_cli.main import app

TODAY = date(2026, 11, 21)
HEAD = "apiVersion: agentos/v0.2\nkind: AgentContract\nname: a\nbudgets: { tokens: 1 }\n"


def lint(text: str) -> Report:
    """Lint a text as of one day."""
    return lint_text(text, "f.yaml", TODAY)


def found(text: str) -> list[tuple[str, int, int, str]]:
    """What lint says: severity, line, column, code."""
    return [(each.severity, each.line, each.column, each.code) for each in lint(text).findings]


def test_a_careful_contract_has_no_findings() -> None:
    """Nothing is said about a contract that grants, scopes and limits what it uses."""
    text = HEAD + (
        "class: DT\ncapabilities: [fs.read, fs.write, email.send]\n"
        "modelPolicy: { allow: [local/8B], max_context_tokens: 16k }\n"
        "security:\n  consent_for: [fs.write, destructive, post_entry]\n"
        "  paths: { read: ['/src/**'], write: [/out/report.md] }\n"
        "  recipients: ['*@team.example']\n"
    )
    assert found(text) == []
    assert [(each.kind, each.name) for each in lint(text).documents] == [("AgentContract", "a")]


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("capabilities: [fs.wrte]", [("warning", 5, 16, "unknown-capability")]),
        ("capabilities:\n  - fs_read", [("warning", 6, 5, "unknown-capability")]),
        ("capabilities: [Web.Fetch]", [("warning", 5, 16, "unknown-capability")]),
        ("capabilities: [read_file, git.push]", []),
        (
            "capabilities: [x]\nsecurity: { deny: [y, x] }",
            [("warning", 6, 23, "granted-and-denied")],
        ),
        ("security: { consent_for: [email.send] }", [("warning", 5, 27, "consent-without-grant")]),
        ("security: { consent_for: [send_letter, destructive, tool.call] }", []),
        (
            "capabilities: [fs.read]\nsecurity: { paths: { read: [] } }",
            [("warning", 6, 28, "empty-scope")],
        ),
        ("security: { paths: { read: [] } }", []),
        (
            "security: { paths: { write: [/ok, /x/../.fmos/memory/**] } }",
            [("warning", 5, 35, "system-area")],
        ),
        ("security: { paths: { write: [/src/] } }", [("warning", 5, 30, "folder-alone")]),
        ("security: { paths: { write: ['/a[12]'] } }", [("warning", 5, 30, "literal-brackets")]),
        (
            "capabilities: [email.send]\nsecurity: { recipients: [ops, '*@*'] }",
            [("warning", 6, 31, "any-recipient")],
        ),
        ("capabilities: [message.send]", [("warning", 1, 1, "any-recipient")]),
        ("security: { recipients: ['*'] }", []),
        ("latency_class: SRT", []),
        (
            "class: { latency: SRT, turn_ms: 5 }",
            [("warning", 5, 33, "not-enforced")],
        ),
        (
            "memory:\n  rag: { require_grounding: true }\n  retention_days: 3",
            [("warning", 6, 29, "not-enforced"), ("warning", 7, 19, "not-enforced")],
        ),
        (
            "compute: { mem: plenty }",
            [("warning", 5, 17, "unread-quantity"), ("warning", 5, 17, "not-enforced")],
        ),
        ("observability: { tracing: otel }", [("warning", 5, 27, "not-enforced")]),
        ("budgets: {}", [("error", 5, 1, "invalid")]),
        (
            "capabilties: []\nsecurity: { deny: 3 }",
            [("error", 5, 1, "invalid"), ("error", 6, 19, "invalid")],
        ),
    ],
)
def test_findings_of_a_contract(rest: str, expected: list[tuple[str, int, int, str]]) -> None:
    """Each is at the line and column of what it is about."""
    assert found(HEAD + rest) == expected


def test_a_contract_without_a_budget_is_told() -> None:
    """A budget of the agent or of a window is one too."""
    bare = HEAD.replace("budgets: { tokens: 1 }\n", "")
    assert found(bare) == [("warning", 1, 1, "no-budget")]
    assert found(bare + "budgets: { per_day: { tokens: 1 } }") == []
    assert found(bare + "budgets: { agent: { tokens: 1 } }") == []


def test_an_older_version_is_told_with_its_last_day() -> None:
    """A warning before and after the day; a version that is not read is an error."""
    old = HEAD.replace("v0.2", "v0.1")
    report = lint(old)
    assert [(each.code, each.line, each.column) for each in report.findings] == [
        ("deprecated", 1, 13)
    ]
    assert report.findings[0].message == "'agentos/v0.1' is read until 2027-06-30"
    late = lint_text(old, "f.yaml", date(2028, 1, 1))
    assert "was promised to be read until" in late.findings[0].message
    unknown = lint(HEAD.replace("v0.2", "v3")).findings[0]
    assert (unknown.severity, unknown.expected) == ("error", "agentos/v0.2 or agentos/v0.1")


def test_the_agent_main_is_reserved() -> None:
    """No agent may have the name of the branch that agents are made from."""
    assert found(HEAD.replace("name: a", "name: main")) == [("warning", 3, 7, "reserved-name")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("agent: a\nmust: { modle: x }", [("warning", 2, 16, "unknown-dimension")]),
        ("agent: a\nprefer: { model: [ok, x_v3..v1] }", [("error", 2, 23, "broken-range")]),
        ("agent: a\nmust: { capabilities: [fs.raed] }", [("warning", 2, 24, "unknown-capability")]),
        (
            "agent: a\nallow_fallbacks: [{ when: x, substitute: { model: a..b } }]",
            [("error", 2, 51, "broken-range")],
        ),
        (
            "workflow: w\nsteps:\n  - { id: a, agent: x, out: { plan: json } }\n"
            "  - { id: b, agent: x, in: { plans: json } }\n  - { id: c, type: HITL_approval }\n",
            [("warning", 4, 37, "unknown-input"), ("warning", 5, 5, "consent-for-nothing")],
        ),
        (
            "workflow: w\nsteps:\n  - id: a\n    agent: x\n"
            "    contract:\n      capabilities: [fs.wirte]\n",
            [("warning", 6, 22, "unknown-capability")],
        ),
        (
            "apiVersion: agentos/v0.2\nkind: Policy\nlayer: admin\n"
            "must: { capabilities: [x], deny: [x], paths: { read: [/a/] }, retention_days: 1 }",
            [
                ("warning", 4, 35, "granted-and-denied"),
                ("warning", 4, 55, "folder-alone"),
                ("warning", 4, 79, "not-enforced"),
            ],
        ),
        (
            "apiVersion: agentos/v0.2\nkind: Policy\nlayer: admin\n",
            [("warning", 1, 1, "empty-policy")],
        ),
    ],
)
def test_findings_of_the_other_kinds(text: str, expected: list[tuple[str, int, int, str]]) -> None:
    """Binding documents, workflows and policies are looked at as what they are."""
    assert found(text) == expected


def test_every_document_of_a_file_is_looked_at() -> None:
    """One that is wrong does not hide the next; broken YAML is one error with its place."""
    text = HEAD.replace("name: a", "nam: a") + "---\nagent: b\nmust: { modle: x }\n"
    assert [(line, code) for _, line, _, code in found(text)] == [
        (1, "invalid"), (3, "invalid"), (7, "unknown-dimension"),
    ]  # fmt: skip
    assert found("a: [1\nb: 2") == [("error", 2, 2, "invalid")]
    assert found("# nothing") == [("error", 0, 0, "invalid")]


def test_the_table_of_promises_covers_every_field() -> None:
    """Each field that a contract can declare is said to be enforced, or not to be."""
    full = load_text(
        HEAD + "role: r\nclass: { latency: HRT, deadline_ms: 1, onset_ms: 2 }\n"
        "compute: { cpu: 1 }\nmodelPolicy: { allow: [m], prefer: [m], max_context_tokens: 1 }\n"
        "memory: { namespace: n, retention_days: 1, rag: { top_k: 1, require_grounding: true } }\n"
        "security: { consent_for: [c], deny: [d], paths: { read: [/] }, recipients: [r] }\n"
        "observability: { tracing: t, log_fields: [f] }\n"
    )
    fields = {".".join(path) for path in declared(full)} - {"apiVersion", "kind", "name"}
    said = {field: enforced_by(field) for field in fields}
    assert "its reader" not in said.values()
    assert said["security.paths.read"] == "the trust gate"
    assert said["budgets.tokens"] == "the ledger"
    assert said["memory.rag.top_k"] is None
    assert enforced_by("must.budgets.tenant.tokens") == "the ledger"
    assert enforced_by("prefer.rag.top_k") is None


def run(*arguments: str, text: bytes = b"") -> tuple[int, str, str]:
    """Run the command in this process and return its exit code, output and errors."""
    done = CliRunner().invoke(app, ["contract", "lint", *arguments], input=text)
    return done.exit_code, done.stdout, done.stderr


def test_the_command_says_all_and_leaves_with_the_code(tmp_path: Path) -> None:
    """0 for warnings, 1 for warnings with --strict, 4 for errors in any file."""
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(HEAD + "latency_class: SRT\ncompute: { cpu: 1 }", encoding="utf-8")
    bad.write_text(HEAD + "zzz: 1\nsecurity: { deny: 3 }", encoding="utf-8")
    code, out, _ = run(str(good))
    assert code == 0
    assert f"{good}:6:17: warning: the field 'compute.cpu' is read, but nothing" in out
    assert out.endswith("AgentContract a: no errors, 1 warning\n")
    assert run("--strict", str(good))[0] == 1
    code, out, errors = run(str(good), str(bad), str(tmp_path / "no.yaml"))
    assert (code, errors) == (4, "")
    assert f"{bad}:5:1: error: there is no field 'zzz'" in out
    assert f"{bad}:6:19: error: the field 'security.deny' is wrong" in out
    assert "no.yaml: error: cannot read the contract" in out


def test_the_command_reads_standard_input_and_prints_json() -> None:
    """One object with the files, their documents and findings, and the counts."""
    code, out, _ = run("--json", "-", text=(HEAD + "capabilities: [fs.wrte]").encode())
    document: dict[str, Any] = json.loads(out)
    assert code == 0
    assert (document["errors"], document["warnings"]) == (0, 1)
    only = document["files"][0]
    assert (only["file"], only["documents"][0]["name"]) == ("<stdin>", "a")
    assert only["findings"][0]["code"] == "unknown-capability"
    code, out, _ = run("-", text=b"name: \xff\x1b[2J")
    assert code == 4
    assert "'<stdin>' is not UTF-8 text (byte 6)" in out


def test_what_a_document_says_cannot_move_the_cursor() -> None:
    """Control characters from a document are shown escaped."""
    code, out, _ = run("-", text=(HEAD + '"zz\\e[2Jz": 1').encode())
    assert code == 4
    assert "\x1b" not in out
    assert "\\x1b" in out
