"""The `fmos` command: what a person sees of approvals and contracts, and how it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.threats.terminal import at_terminal, fmos

from fmos.client import connect
from fmos.types import Principal

ADA = Principal(agent="ada", session="s1")
WRITE = {
    "id": "0" * 32,
    "kind": "tool.call",
    "name": "write_file",
    "arguments": {"path": "/a.txt", "text": "hi\x1b[2J"},
}
TOOLS = [
    {"name": "write_file", "capability": "fs.write", "effect": "write", "roles": {"path": "path"}},
    {"name": "read_file", "capability": "fs.read", "effect": "read", "roles": {"path": "path"}},
]


def _fmos(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fmos_cli", "--home", str(home), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_ask_approve_allow(home):
    """An asked call shows up as pending, a person approves it, and then it may run once."""
    with connect(ADA, home=home, transport="inprocess") as client:
        client.call("trust_register_tools", {"tools": TOOLS})
        asked = client.call("trust_check", {"operation": WRITE})
        assert asked["decision"] == "ask"
        listed = _fmos(home, "pending")
        assert asked["approval"] in listed.stdout
        assert "\x1b" not in listed.stdout
        document = json.loads(_fmos(home, "pending", "--json").stdout)
        assert [item["id"] for item in document["approvals"]] == [asked["approval"]]
        code, _ = at_terminal(fmos(home, "approve", asked["approval"], "--reason", "fine"), "y")
        assert code == 0
        again = {"operation": WRITE, "approval": asked["approval"]}
        assert client.call("trust_check", again)["decision"] == "allow"
        assert client.call("trust_check", again)["decision"] == "ask"
    assert at_terminal(fmos(home, "approve", asked["approval"]), "y")[0] == 5


def test_deny(home):
    """A denied call is denied when it comes back, with the person's reason."""
    with connect(ADA, home=home, transport="inprocess") as client:
        client.call("trust_register_tools", {"tools": TOOLS})
        asked = client.call("trust_check", {"operation": WRITE})
        given = ("approve", asked["approval"], "--deny", "--reason", "not on Fridays")
        assert at_terminal(fmos(home, *given), "") == (0, f"denied {asked['approval']}\n")
        verdict = client.call("trust_check", {"operation": WRITE, "approval": asked["approval"]})
    assert verdict["decision"] == "deny"
    assert "not on Fridays" in verdict["reasons"][0]["message"]


def test_nothing_waits(home):
    """A home where nothing waits says so."""
    assert _fmos(home, "pending").stdout == "nothing waits\n"


def test_unknown_approval(home):
    """An approval that does not exist is one sentence and exit code 8."""
    code, said = at_terminal(fmos(home, "approve", "42"), "")
    assert code == 8
    assert said == "fmos: there is no approval '42'; run `fmos pending` to see what waits\n"


def test_check_classes_registered_tools(home):
    """`check` tells innocuous from privileged tools and names capabilities without a tool."""
    with connect(ADA, home=home, transport="inprocess") as client:
        client.call("trust_register_tools", {"tools": TOOLS})
    document = json.loads(_fmos(home, "check", "ada", "--adapter", "none", "--json").stdout)
    classes = {item["name"]: item["operation_class"] for item in document["operations"]}
    assert classes["read_file"] == "innocuous"
    assert classes["write_file"] == "privileged"
    assert classes["process.run"] == "privileged"
    named = str(home / "contracts" / "ada.yaml")
    assert "read_file" in _fmos(home, "check", named, "--adapter", "none").stdout


def test_check_names_the_wrong_field(home):
    """A contract with an unknown field is refused with the field's name and exit code 4."""
    path = home / "broken.yaml"
    path.write_text((home / "contracts" / "ada.yaml").read_text() + "capabilites: []\n")
    answer = _fmos(home, "check", str(path))
    assert answer.returncode == 4
    assert "capabilites" in answer.stderr
    assert "capabilities" in answer.stderr


def test_usage_error(home):
    """A command that does not exist is one sentence and exit code 2."""
    answer = _fmos(home, "serv")
    assert answer.returncode == 2
    assert answer.stderr.startswith("fmos: ")
    assert len(answer.stderr.splitlines()) == 1


def test_home_is_a_file(tmp_path):
    """`--home` on a file is one sentence and exit code 3, with nothing written."""
    (tmp_path / "home").write_text("")
    answer = _fmos(tmp_path / "home", "pending")
    assert answer.returncode == 3
    assert len(answer.stderr.splitlines()) == 1
    assert os.listdir(tmp_path) == ["home"]


def test_help_needs_no_home(tmp_path):
    """`--help` of every command answers without touching a home."""
    for command in ("serve", "pending", "approve", "check", "demo"):
        assert _fmos(tmp_path / "home", command, "--help").returncode == 0
    assert not (tmp_path / "home").exists()
