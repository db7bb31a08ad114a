"""A report says of journals what was spent, how long it took, and what was refused."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest
from tests.core.journals import write_journal
from tests.core.sessions import put_contract, run_session
from typer.testing import CliRunner

from fmos.errors import ArgumentError, FormatError, HomeError, NotFoundError
from fmos.report.analysis import GROUPS, Analysis
from fmos.report.charts import Chart, draw
from fmos.report.source import volumes
from fmos.runtime.kernel import Kernel
from fmos_cli.main import app

pytest.importorskip("duckdb")

_TURNS = 300


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the journal of a week."""
    folder = tmp_path_factory.mktemp("report")
    write_journal(folder / "tenants" / "default.afs", _TURNS)
    put_contract(folder)
    return folder


def _call(home: Path, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["--home", str(home), "report", *arguments])
    return result.exit_code, result.output


def _tables(home: Path, *arguments: str) -> dict[str, list[dict[str, Any]]]:
    code, said = _call(home, "--json", *arguments)
    assert code == 0, said
    return json.loads(said)["tables"]


def _details(home: Path, kind: str) -> list[tuple[str, dict[str, Any]]]:
    with sqlite3.connect(home / "tenants" / "default.afs") as database:
        rows = database.execute(
            "SELECT principal, detail FROM journal WHERE operation = ? ORDER BY seq", (kind,)
        ).fetchall()
    database.close()
    return [(principal.split("/")[2], json.loads(detail)) for principal, detail in rows]


def test_the_tables_say_what_the_journal_says(home: Path) -> None:
    """Operations, denials, spend and signals are those that counting by hand gives."""
    tables = _tables(home)
    intents = _details(home, "op.intent")
    totals = tables["totals"][0]
    assert totals["operations"] == len(intents)
    assert totals["denied"] == sum(detail["decision"] == "deny" for _, detail in intents)
    spent: Counter[str] = Counter()
    for agent, detail in _details(home, "op.outcome"):
        spent[agent] += detail["usage"].get("tokens", 0)
    tokens = {row["agent"]: row["amount"] for row in tables["spend"] if row["resource"] == "tokens"}
    assert tokens == dict(spent)
    reasons = Counter(
        detail["reasons"][0] for _, detail in intents if detail["decision"] in ("deny", "ask")
    )
    assert {row["reason"]: row["operations"] for row in tables["denials"]} == dict(reasons)
    signals = Counter(label for _, detail in intents for label in detail.get("labels", ()))
    assert {f"signal:{row['signal']}": row["operations"] for row in tables["signals"]} == signals


def test_turns_are_held_against_the_contract(home: Path) -> None:
    """Only an agent whose contract promises a turn's time has an error budget."""
    turns = {row["agent"]: row for row in _tables(home)["turns"]}
    assert turns["writer"]["turn_ms"] == 1200
    share = turns["writer"]["within_pct"]
    assert turns["writer"]["error_budget_used_pct"] == pytest.approx((100 - share) / 0.05, abs=1.1)
    assert turns["planner"]["turn_ms"] is None
    assert sum(row["turns"] for row in turns.values()) == _TURNS


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_calls_can_be_grouped_by_everything_that_is_offered(home: Path, group: str) -> None:
    """Each group's rows add up to all operations; each call here has one reason."""
    rows = _tables(home, "--by", group)["grouped"]
    assert sum(row["operations"] for row in rows) == len(_details(home, "op.intent"))


def test_a_time_limits_the_report(home: Path) -> None:
    """The days before and after a time add up to all of them."""
    before = _tables(home, "--until", "2026-03-05")["totals"][0]["operations"]
    after = _tables(home, "--since", "2026-03-05T00:00")["totals"][0]["operations"]
    assert before
    assert after
    assert before + after == len(_details(home, "op.intent"))
    assert [row["day"] for row in _tables(home, "--by", "day", "--since", "2026-03-08")["grouped"]]


def test_a_real_session_is_counted(tmp_path: Path) -> None:
    """The rows that the services write give the calls, the approval and the spending."""
    with Kernel.open(tmp_path / "home") as kernel:
        run_session(kernel)
    tables = _tables(tmp_path / "home")
    spend = {row["resource"]: row["amount"] for row in tables["spend"]}
    assert spend == {"tokens": 150, "tool_calls": 3, "memory_writes": 1}
    assert tables["totals"][0] | {"denied": 1, "asked": 1} == tables["totals"][0]
    assert {row["reason"] for row in tables["denials"]} == {
        "trust.secret",
        "trust.consent.required",
    }


def test_a_report_changes_nothing_of_the_home(tmp_path: Path) -> None:
    """The volumes are read only."""
    with Kernel.open(tmp_path / "home") as kernel:
        run_session(kernel)

    def digests() -> list[str]:
        paths = sorted(path for path in (tmp_path / "home").rglob("*") if path.is_file())
        kept = [path for path in paths if not path.name.endswith(("-shm", "-wal"))]
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in kept]

    before = digests()
    assert _call(tmp_path / "home")[0] == 0
    assert digests() == before


def test_parquet_files_hold_every_call(home: Path, tmp_path: Path) -> None:
    """Another program reads as many calls from calls.parquet as the report counts."""
    duckdb = pytest.importorskip("duckdb")
    assert _call(home, "--parquet", str(tmp_path / "out"))[0] == 0
    count = duckdb.sql(f"SELECT count(*) FROM '{tmp_path}/out/calls.parquet'").fetchall()
    assert count == [(len(_details(home, "op.intent")),)]
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "turns.parquet",
        "spend.parquet",
    }


@pytest.mark.parametrize("chart", get_args(Chart))
def test_charts_have_a_title_and_named_axes(home: Path, tmp_path: Path, chart: str) -> None:
    """The SVG has its title and both axes' names as text, is the same twice; a PNG is a PNG."""
    one, two, png = (tmp_path / name for name in ("one.svg", "two.svg", "three.png"))
    with Analysis() as analysis:
        analysis.load(volumes(home / "tenants"))
        for path in (one, two, png):
            draw(analysis, chart, path)  # type: ignore[arg-type]
    assert one.read_bytes() == two.read_bytes()
    assert png.read_bytes().startswith(b"\x89PNG")
    said = " ".join(ElementTree.parse(one).getroot().itertext())
    wanted = {
        "spend": ("Tokens spent a day, by agent", "tokens", "day (UTC)", "writer"),
        "latency": ("Latency by tool and model", "milliseconds", "share of calls", "read_file"),
        "denials": ("by reason", "operations", "reason", "trust.secret"),
    }[chart]
    assert all(text in said for text in wanted)


def test_an_empty_home_gives_empty_tables_and_charts(tmp_path: Path) -> None:
    """Nothing happened: the totals are 0, the other tables say none, and charts say so, too."""
    (tmp_path / "tenants").mkdir()
    code, said = _call(tmp_path, "--plot", str(tmp_path / "empty.svg"))
    assert code == 0
    assert "operations           0" in said
    assert said.count("  none\n") == 6
    assert "nothing to draw" in said
    assert "nothing to show" in (tmp_path / "empty.svg").read_text()
    assert _call(tmp_path / "misspelt")[0] == HomeError.exit_code


def test_an_unknown_tenant_is_named_with_those_there_are(home: Path) -> None:
    """A report of a tenant that is not there is no report of zeros."""
    code, said = _call(home, "--tenant", "default", "--tenant", "acne")
    assert (code, "'acne'" in said, "default" in said) == (NotFoundError.exit_code, True, True)


def test_options_that_would_be_ignored_are_refused(home: Path, tmp_path: Path) -> None:
    """A chart's options without one, and a resource of a chart that is of none, are wrong usage."""
    for arguments in (
        ("--chart", "latency"),
        ("--resource", "tokens"),
        ("--force",),
        ("--plot", str(tmp_path / "a.svg"), "--chart", "latency", "--resource", "tokens"),
    ):
        code, said = _call(home, *arguments)
        assert code == 2, said


def test_a_file_that_is_there_is_replaced_by_force_only(home: Path, tmp_path: Path) -> None:
    """Neither chart nor Parquet files take the place of others unasked."""
    chart, folder = tmp_path / "a.svg", tmp_path / "out"
    given = ("--plot", str(chart), "--parquet", str(folder))
    assert _call(home, *given)[0] == 0
    for path in (chart, folder / "spend.parquet"):
        path.write_text("mine")
    assert _call(home, "--plot", str(chart))[0] == ArgumentError.exit_code
    assert _call(home, "--parquet", str(folder))[0] == ArgumentError.exit_code
    assert (chart.read_text(), (folder / "spend.parquet").read_text()) == ("mine", "mine")
    assert _call(home, *given, "--force")[0] == 0
    assert "<svg" in chart.read_text()


def test_wrong_arguments_are_named(home: Path, tmp_path: Path) -> None:
    """A bad choice is exit 2, a bad time, ending or folder 5, a file that is no volume 13."""
    chart = str(tmp_path / "a.svg")
    for arguments, word, wanted in (
        (("--by", "colour"), "'colour'", 2),
        (("--plot", chart, "--chart", "pie"), "'pie'", 2),
        (("--since", "yesterday"), "'yesterday'", ArgumentError.exit_code),
        (("--plot", str(tmp_path / "a.gif")), ".png or .svg", ArgumentError.exit_code),
        (("--plot", str(tmp_path / "no" / "a.svg")), "no folder", ArgumentError.exit_code),
        (("--parquet", "/proc/no/out"), "no folder", ArgumentError.exit_code),
        (
            ("--plot", chart, "--resource", "tokenz"),
            "did you mean 'tokens'",
            ArgumentError.exit_code,
        ),
    ):
        code, said = _call(home, *arguments)
        assert (code, word in said) == (wanted, True), said
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants" / "bad.afs").write_bytes(b"no volume at all" * 100)
    code, said = _call(tmp_path)
    assert code == FormatError.exit_code
    assert "bad.afs" in said


def test_a_missing_extra_is_named(home: Path) -> None:
    """Without DuckDB the error says what to install."""
    program = (
        "import sys; sys.modules['duckdb'] = None\n"
        "from fmos_cli.main import app; app(prog_name='fmos')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, "--home", str(home), "report"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 12
    assert 'pip install "fmos[analytics]"' in ran.stderr
