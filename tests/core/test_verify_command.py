"""`fmos verify` and `fmos equivalent` as commands: exit codes, JSON, sources, and what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fmos.client import connect
from fmos.runtime.kernel import Kernel
from fmos.types import Principal
from fmos_cli.main import app

CONTRACT = """\
apiVersion: agentos/v0.2
kind: AgentContract
name: ada
budgets: { verifier_runs: 1 }
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a home that is not there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FMOS_HOME", str(tmp_path / "home"))
    return tmp_path


def fmos(*arguments: str, stdin: str | bytes | None = None) -> Result:
    """What a command prints, and how it ends."""
    return CliRunner().invoke(app, list(arguments), input=stdin)


def test_a_right_text_exits_0_and_makes_no_home(folder: Path) -> None:
    """Standard input is read, and nothing is written anywhere."""
    ran = fmos("verify", "-", stdin="2 + 2 = 4.\n")
    assert (ran.exit_code, ran.stdout.splitlines()[-1]) == (
        0, "1 claim: 1 supported, 0 refuted, 0 undecided",
    )  # fmt: skip
    assert not (folder / "home").exists()


def test_a_refuted_claim_exits_1_and_json_has_the_evidence() -> None:
    """One JSON object with every claim, its findings and the counts."""
    ran = fmos("verify", "-", "--json", "--types", "arithmetic", stdin="2 + 2 = 5. [7]\n")
    document = json.loads(ran.stdout)
    assert (ran.exit_code, document["refuted"], document["problems"]) == (1, 1, {})
    (result,) = document["results"]
    assert result["findings"][0]["evidence"] == ["2 + 2 = 4"]


def test_what_is_too_long_to_be_looked_at_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The claims beyond the first ones are named by their line, and fail with --strict."""
    monkeypatch.setattr("fmos.verify.claims.MAX_CLAIMS", 10)
    text = "2 + 2 = 4.\n" * 11
    ran = fmos("verify", "-", stdin=text)
    note, total = ran.stdout.splitlines()[-2:]
    assert (ran.exit_code, total) == (0, "10 claims: 10 supported, 0 refuted, 0 undecided")
    assert note.startswith("note: nothing is said of the text from line 11 on, only the first 10 c")
    assert fmos("verify", "-", "--strict", stdin=text).exit_code == 1
    assert fmos("verify", "-", "--strict", stdin=text[:-11]).exit_code == 0
    long = fmos("verify", "-", "--json", stdin="\n" * 9 + "x" * 1_000_000)
    assert (
        "from line 10 on, only the first 1,000,000 c" in json.loads(long.stdout)["problems"]["text"]
    )


def test_progress_is_told_at_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who looks sees how far it is; with --json or without a terminal nothing is told."""
    monkeypatch.setattr("fmos_cli.telling._EVERY_S", 0)
    text = "2 + 2 = 4.\n2 + 3 = 5.\n"
    assert fmos("verify", "-", stdin=text).stderr == ""
    monkeypatch.setattr("fmos_cli.telling.is_watched", lambda: True)
    told = fmos("verify", "-", stdin=text).stderr.splitlines()
    assert told[:2] == ["... looking for claims, line 1", "... looking for claims, line 2"]
    assert told[-1] == "... claims checked 1"
    assert fmos("verify", "-", "--json", stdin=text).stderr == ""


def test_an_undecided_claim_fails_only_with_strict() -> None:
    """By default only what is refuted fails."""
    text = "The bridge was never painted in grey colour [b].\n"
    source = "--source"
    Path("b").write_text("The bridge was painted in grey colour.")
    assert fmos("verify", "-", source, "b", stdin=text).exit_code == 0
    assert fmos("verify", "-", source, "b", "--strict", stdin=text).exit_code == 1


def test_schema_and_tables_come_from_files() -> None:
    """JSON and SQL blocks are checked against them."""
    pytest.importorskip("sqlglot", reason="extra `verifiers`")
    Path("schema.json").write_text('{"type": "array"}')
    Path("tables.json").write_text('{"users": {"id": "int"}}')
    Path("a.md").write_text("```json\n{}\n```\n```sql\nSELECT nme FROM users\n```\n")
    ran = fmos("verify", "a.md", "--schema", "schema.json", "--tables", "tables.json")
    assert ran.exit_code == 1
    assert 'a.md:2: json: refuted: it does not fit the schema: /: {} is not of type "array"' in (
        ran.stdout
    )
    assert "a.md:5: sql: refuted: Column 'nme'" in ran.stdout
    assert fmos("verify", "a.md").exit_code == 0


def test_an_agent_pays_and_its_files_are_sources(folder: Path) -> None:
    """The account is charged; what is beyond it is undecided with the reason."""
    with Kernel.open(folder / "home") as kernel:
        (kernel.home.contracts / "ada.yaml").write_text(CONTRACT)
        kernel.agent_files(Principal(agent="ada")).write("/n.md", "Opened in 1932.")
    text = "It was opened in 1932 [/n.md]. And 2 + 2 = 5.\n"
    ran = fmos("verify", "-", "--agent", "ada", "--session", "s", stdin=text)
    assert ran.exit_code == 0, ran.stdout
    assert "citation: supported" in ran.stdout
    assert "arithmetic: undecided: account" in ran.stdout or "verifier_runs" in ran.stdout
    with Kernel.open(folder / "home") as kernel:
        account = kernel.account(Principal(agent="ada", session="s"))
        spent = {b.resource: b.spent for b in kernel.ledger.status(account)}
    assert spent["verifier_runs"] == 1


def test_paged_out_texts_are_sources_by_their_handle(folder: Path) -> None:
    """What a session's context keeps can be cited, and is read through its server."""
    ada = Principal(agent="ada", session="s")
    with Kernel.open(folder / "home") as kernel, connect(ada, kernel=kernel) as client:
        client.call("context_open", {"threshold_bytes": 100})
        page = "The tower is 300 metres high. " * 20
        asked = {"role": "tool", "text": page, "name": "web"}
        handle = client.call("context_append", asked)["handle"]
    text = f"The tower is 300 metres high [{handle}]. It is 301 metres high [{handle}].\n"
    ran = fmos("verify", "-", "--agent", "ada", "--session", "s", stdin=text)
    assert "1 supported, 1 refuted" in ran.stdout, ran.output


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["verify", "nowhere.md"], 5, "cannot read 'nowhere.md'"),
        (["verify", "-", "--source", "x=nowhere"], 5, "cannot read 'nowhere'"),
        (["verify", "-", "--schema", "bad.json"], 5, "'bad.json' is not JSON"),
        (["verify", "-", "--agent", "a/b"], 5, "cannot be an agent id"),
        (["verify", "-", "--risk", "2"], 2, "risk"),
        (["equivalent", "r.yaml", "r.yaml"], 5, "there must be operations"),
        (["equivalent", "x.yaml", "r.yaml", "--generate", "1"], 5, "cannot read 'x.yaml'"),
        (["verify", "-", "--types", "arithmetic,bogus"], 2, "'bogus'"),
        (["equivalent", "bad.json", "r.yaml", "--generate", "1"], 5, "bad.json"),
        (["equivalent", "r.yaml", "r.yaml", "--operations", "bad.json"], 5, "bad.json:1"),
        (["equivalent", "r.yaml", "other.yaml", "--generate", "1"], 5, "default/-/bob"),
    ],
)
def test_what_is_wrong_is_named_with_its_exit_code(
    arguments: list[str], code: int, said: str
) -> None:
    """Files, options and documents that cannot be used."""
    Path("bad.json").write_text("{")
    Path("ada.yaml").write_text(CONTRACT)
    Path("bob.yaml").write_text(CONTRACT.replace("ada", "bob"))
    Path("r.yaml").write_text("contract: ada.yaml\n")
    Path("other.yaml").write_text("contract: bob.yaml\n")
    ran = fmos(*arguments, stdin="2 + 2 = 4")
    assert (ran.exit_code, said in ran.stderr) == (code, True), ran.output


def test_what_a_terminal_would_obey_is_escaped() -> None:
    """A text cannot move the cursor of who checks it."""
    ran = fmos("verify", "-", stdin='He said "\x1b[2Jall gone" [9].\n')
    assert "\x1b" not in ran.stdout


def test_a_refused_plugin_is_a_note(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A verifier that cannot be loaded is named, and the others run."""
    from tests.core.plugin_folder import install

    site = install(
        folder / "site", "acme", "acme_v", "1 / 0", "[fmos.verifiers]\nx = acme_v:V\n"
    )  # fmt: skip
    monkeypatch.syspath_prepend(str(site))
    (folder / "home").mkdir()
    (folder / "home" / "fmos.toml").write_text('[drivers]\nallowed = ["x"]\n')
    ran = fmos("verify", "-", stdin="2 + 2 = 4.\n")
    assert ran.exit_code == 0
    assert "note: the verifier 'x' of 'acme 1' cannot be loaded: ZeroDivisionError" in ran.stdout


def test_equivalent_prints_a_report_as_json() -> None:
    """The report has what holds where, and is read by nothing but JSON."""
    Path("ada.yaml").write_text(CONTRACT)
    Path("r.yaml").write_text("contract: ada.yaml\n")
    ran = fmos("equivalent", "r.yaml", "r.yaml", "--generate", "4", "--json")
    report = json.loads(ran.stdout)
    assert (ran.exit_code, report["equivalent"], report["steps"]) == (0, True, 4)
    assert report["holds"] == {"r (1)": True, "r (2)": True}


@pytest.mark.parametrize("name", ["verify", "equivalent"])
def test_help_has_an_example(name: str) -> None:
    """`--help` shows a call and the exit codes."""
    said = fmos(name, "--help").stdout
    assert f"fmos {name} " in said.split("Example:")[1]
    assert "Exit codes:" in said
