"""The command `fmos check`: what it finds, what it says, and how it exits."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.core.console_blocks import texts

from fmos.client import connect
from fmos.errors import ArgumentError
from fmos.types import Principal
from fmos_cli.checking import Request, run_check

READ = {"name": "read_file", "capability": "fs.read", "effect": "read", "roles": {"path": "path"}}
WRITE = {"name": "write_file", "capability": "fs.write", "effect": "write", "roles": {}}
DOCS = Path(__file__).parents[2] / "docs"
_DIGEST = re.compile(r"\b[0-9a-f]{12}\b")
FIELDS = ["contract", "table_version", "operations", "seams", "gaps", "warnings", "proven"]


def check(
    home: Path, *arguments: str, path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `fmos check` on a home; `path` is a folder with further packages."""
    command = [sys.executable, "-m", "fmos_cli", "--home", str(home), "check", *arguments]
    environment = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=environment
    )


def static(home: Path, *arguments: str) -> dict[str, Any]:
    """Return the report without any adapter; it must be proven."""
    answer = check(home, *arguments, "--adapter", "none", "--json")
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def manifest(folder: Path, *tools: Any) -> str:
    """Write a manifest and return where it is."""
    path = folder / "tools.json"
    path.write_text(json.dumps(tools), encoding="utf-8")
    return str(path)


def test_agent_with_registered_tools(home: Path) -> None:
    """The tools that an application registered are classed, and the fields are the documented."""
    with connect(Principal(agent="ada", session="s1"), home=home, transport="inprocess") as client:
        client.call("trust_register_tools", {"tools": [READ, WRITE]})
    report = static(home, "ada")
    assert list(report) == FIELDS
    classes = {each["name"]: each["operation_class"] for each in report["operations"]}
    assert classes["read_file"] == "innocuous"
    assert classes["write_file"] == classes["process.run"] == "privileged"
    assert report["contract"]["agent"] == "ada"
    assert report["seams"] == report["gaps"] == []


def test_home_that_was_never_opened_stays_as_it_is(home: Path) -> None:
    """A home of which only the contracts are there is read, and nothing is made in it."""
    before = sorted(str(path) for path in home.rglob("*"))
    assert static(home, "ada")["contract"]["agent"] == "ada"
    assert sorted(str(path) for path in home.rglob("*")) == before


def test_file_and_manifest_need_no_home(home: Path, tmp_path: Path) -> None:
    """A contract file with a manifest is checked where no home is, and none is made."""
    tools = manifest(tmp_path, READ, WRITE)
    contract = str(home / "contracts" / "ada.yaml")
    for named in ([contract], ["--contract", contract]):
        report = static(tmp_path / "nowhere", *named, "--tools", tools)
        assert {each["name"] for each in report["operations"]} >= {"read_file", "write_file"}
    assert not (tmp_path / "nowhere").exists()


def test_misspelt_capability_is_a_warning_with_the_nearest_name(home: Path, tmp_path: Path) -> None:
    """`fs.wrte` names `fs.write`; it exits 0, and 1 with --strict."""
    text = (home / "contracts" / "ada.yaml").read_text(encoding="utf-8")
    path = tmp_path / "typo.yaml"
    path.write_text(text.replace('"fs.write", "process', '"fs.wrte", "process'), encoding="utf-8")
    arguments = [str(path), "--tools", manifest(tmp_path, READ, WRITE), "--adapter", "none"]
    answer = check(home, *arguments)
    assert answer.returncode == 0
    assert "fs.wrte" in answer.stdout
    assert "did you mean 'fs.write'?" in answer.stdout
    assert check(home, *arguments, "--strict").returncode == 1


def test_text_says_what_was_proven_in_five_lines(home: Path) -> None:
    """The last five lines say what was shown and what was not."""
    answer = check(home, "ada", "--adapter", "none")
    last = answer.stdout.splitlines()[-5:]
    assert last[0] == "PROVEN"
    assert "10 kinds" in last[1]
    assert "not shown by any check" in last[4]


ADAPTER = """\
from fmos.check.seams import Seam, source_of
from fmos.types import OperationKind

def leak(session):
    call = session.call("forbidden", "refuse")
    session.tools["forbidden"].run(**call.arguments)

def seams():
    yield Seam("plain", source_of(leak), OperationKind.TOOL_CALL, leak, intercepts={declared},
               reason="nobody asks there", hint="ask")
"""


def adapter(folder: Path, *, declared: bool) -> Path:
    """Install an adapter whose only seam runs a forbidden tool, and may say so."""
    folder.mkdir()
    (folder / "leaky.py").write_text(ADAPTER.format(declared=not declared), encoding="utf-8")
    info = folder / "leaky-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: leaky\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[fmos.seams]\nleaky = leaky:seams\n")
    return folder


def test_declared_gap_of_an_adapter_fails_until_accepted(home: Path, tmp_path: Path) -> None:
    """An installed adapter is found; what it cannot intercept exits 1, and 0 once accepted."""
    path = adapter(tmp_path / "site", declared=True)
    answer = check(home, "--adapter", "leaky", "--json", path=path)
    report = json.loads(answer.stdout)
    assert answer.returncode == 1
    assert report["contract"] is None
    (gap,) = report["gaps"]
    assert (gap["where"], gap["file"]) == ("leaky.plain", "leaky.py:4")
    assert (gap["reason"], gap["hint"]) == ("nobody asks there", "ask")
    arguments = ["--adapter", "leaky", "--accept", "leaky.*", "--accept", "typo"]
    accepted = check(home, *arguments, path=path)
    assert accepted.returncode == 0
    assert "--accept typo" in accepted.stdout
    assert "not intercepted, as the adapters say: leaky.plain" in accepted.stdout


def test_bypass_that_is_not_declared_cannot_be_accepted(home: Path, tmp_path: Path) -> None:
    """A seam that says it intercepts and does not fails, whatever is accepted."""
    path = adapter(tmp_path / "site", declared=False)
    answer = check(home, "ada", "--adapter", "leaky", "--accept", "*", path=path)
    assert answer.returncode == 1
    assert "leaky.py:4" in answer.stdout
    assert "ran although the contract does not allow it" in answer.stdout
    assert "NOT PROVEN: 1 gap" in answer.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nobody", "--adapter", "none"], 8, "nobody"),
        (["--adapter", "nosuch"], 8, "langgraph"),
        (["ada", "--contract", "ada"], 5, "twice"),
        (["ada", "--tenant", "../x", "--adapter", "none"], 5, "tenant"),
        (["ada", "--tools", "missing.json", "--adapter", "none"], 5, "missing.json"),
        (["--tools", "{tools}", "--adapter", "none"], 5, "no contract"),
    ],
)
def test_what_cannot_be_checked_is_one_sentence(
    home: Path, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    """What is not there or not usable is named, with the exit code of its error."""
    tools = manifest(tmp_path, READ)
    with connect(Principal(agent="ada", session="s1"), home=home, transport="inprocess") as client:
        client.call("budget_status")
    answer = check(home, *(each.format(tools=tools) for each in arguments))
    assert answer.returncode == code
    assert said in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("3", "no list of tools"),
        ('[{"name": "x"}]', "tool 1"),
        ('{"tools": [{"name": "x", "effect": "raed"}]}', "effect"),
    ],
)
def test_broken_manifest_is_named(home: Path, tmp_path: Path, text: str, said: str) -> None:
    """A manifest that is no list of descriptors is refused with the place of the mistake."""
    path = tmp_path / "tools.json"
    path.write_text(text, encoding="utf-8")
    contract = str(home / "contracts" / "ada.yaml")
    request = Request(home, contract, path, adapters=(), accept=(), tenant="default")
    with pytest.raises(ArgumentError, match=said):
        run_check(request)


def test_tools_of_another_tenant_are_not_seen(home: Path) -> None:
    """`--tenant` says whose tools are looked at."""
    with connect(Principal(agent="ada", session="s1"), home=home, transport="inprocess") as client:
        client.call("trust_register_tools", {"tools": [READ]})
    names = {each["name"] for each in static(home, "ada", "--tenant", "other")["operations"]}
    assert "read_file" not in names
    assert "read_file" in {each["name"] for each in static(home, "ada")["operations"]}


def test_policies_of_the_home_count(home: Path) -> None:
    """A policy that takes reading away from everybody makes the reading tool trap."""
    with connect(Principal(agent="ada", session="s1"), home=home, transport="inprocess") as client:
        client.call("trust_register_tools", {"tools": [READ]})
    policies = home / "policies"
    policies.mkdir(exist_ok=True)
    (policies / "all.yaml").write_text(
        "apiVersion: agentos/v0.2\nkind: Policy\nlayer: platform\nmust: { deny: [fs.read] }\n",
        encoding="utf-8",
    )
    for named in ("ada", str(home / "contracts" / "ada.yaml")):
        report = static(home, named)
        (finding,) = [each for each in report["operations"] if each["name"] == "read_file"]
        assert finding["operation_class"] == "privileged"


def test_page_shows_what_the_command_prints(tmp_path: Path) -> None:
    """The example of docs/check.md, run as it stands there; only digests may differ."""
    page = (DOCS / "check.md").read_text(encoding="utf-8")
    (tmp_path / "worker.yaml").write_text(texts(page, "yaml")[0], encoding="utf-8")
    (tmp_path / "tools.json").write_text(texts(page, "json")[0], encoding="utf-8")
    command, _, shown = texts(page, "console")[0].partition("\n")
    words = command.removeprefix("$ fmos check ").split()
    answer = subprocess.run(
        [sys.executable, "-m", "fmos_cli", "--home", str(tmp_path / "home"), "check", *words],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert answer.returncode == 0
    assert _DIGEST.sub("...", answer.stdout) == _DIGEST.sub("...", shown)


def test_python_of_the_page_runs() -> None:
    """The adapter of docs/check.md that forgets to ask is caught."""
    page = (DOCS / "check.md").read_text(encoding="utf-8")
    source = texts(page, "python")[0]
    # `source_of` looks into the file: here it is the page itself, at the block's own lines.
    lines = page[: page.index(source)].count("\n")
    code = compile("\n" * lines + source, str(DOCS / "check.md"), "exec")
    exec(code, {"__name__": "check"})
