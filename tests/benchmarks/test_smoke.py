"""Every benchmark runs at its small size, and its result has the documented form."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentfs.run import backends, sandbox

MOUNTS = ("mount",)
SANDBOXES = ("run_start",)
HERE = Path(__file__).parent
BENCHMARKS = HERE.parents[1] / "benchmarks"
NAMES = sorted(
    path.stem
    for path in BENCHMARKS.glob("*.py")
    if path.read_text(encoding="utf-8").startswith('"""Claim: ')
)


def run(home: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a script of the benchmarks with its caches in `home` and no peer from the network."""
    environment = {
        **os.environ,
        "HOME": str(home),
        "BENCH_PEER_PYTHON": sys.executable,
        "PYTHONPATH": str(HERE / "stand_in"),
    }
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment, check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_benchmark_writes_a_result_of_the_documented_form(tmp_path: Path, name: str) -> None:
    """A quick run ends well and says what was measured, on what, with which durability."""
    if name in MOUNTS and (why_not := backends.get("fuse").why_not()):
        pytest.skip(why_not)
    if name in SANDBOXES and (why_not := sandbox.why_not()):
        pytest.skip(why_not)
    done = run(tmp_path, BENCHMARKS / f"{name}.py", "--quick", "--results", tmp_path / "results")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "results" / f"{name}.json").read_text(encoding="utf-8"))
    assert (result["name"], result["quick"]) == (name, True)
    assert {"python", "sqlite", "apsw", "fmos"} <= result["versions"].keys()
    assert {"cpu", "cores", "filesystem", "kernel", "load_before"} <= result["machine"].keys()
    assert {"date", "claim", "took_s", "notes", "curves"} <= result.keys()
    assert result["summary"].keys() == {"work", "ours", "beside"}
    check_rows(result["rows"])
    check_measures(result["measures"])


def check_rows(rows: list[dict[str, Any]]) -> None:
    """Each figure has a unit, and a verdict exactly when it has a target."""
    assert rows
    assert len({row["label"] for row in rows}) == len(rows)
    for row in rows:
        assert row.keys() == {"label", "value", "unit", "target", "met"}
        assert row["unit"]
        assert (row["target"] is None) == (row["met"] is None)


def check_measures(measures: dict[str, dict[str, Any]]) -> None:
    """Each side names its durability and keeps its samples."""
    assert measures
    for sides in measures.values():
        for side in sides.values():
            assert side["durability"]
            assert side["median_s"] >= 0
            assert len(side["samples_s"]) >= 1


def test_pages_say_what_the_results_say() -> None:
    """No table differs from the result files."""
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "tables.py", "--check"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that writes the tables."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import tables

    return tables


def test_list_names_benchmarks_and_no_other_module(tables: Any) -> None:
    """What states no claim is not offered by `make bench`."""
    assert sorted(tables.claims()) == NAMES
    assert not {"harness", "peers", "tables", "chart", "work"} & set(NAMES)


def test_quick_result_is_never_published(tables: Any, tmp_path: Path) -> None:
    """A result of a run with small sizes is refused."""
    (tmp_path / "one.json").write_text('{"quick": true}', encoding="utf-8")
    with pytest.raises(ValueError, match="--quick"):
        tables.load(tmp_path)


def test_missed_target_shows_in_the_table(tables: Any) -> None:
    """A row whose target is not met says so, and the others do not."""
    text = tables.table("Claim: it is fast.\n\nTarget: 2x.", RESULT, "one")
    assert "| ours / peer | 1.5 x | >= 2 | **not met** |" in text
    assert "| ours | 12,346 files/s |  |  |" in text
    assert "*ours* full; *peer* none" in text


def test_page_keeps_what_stands_outside_of_the_markers(tables: Any) -> None:
    """Only what stands between the markers is written."""
    page = "before\n<!-- bench:summary -->\nold\n<!-- /bench -->\nafter\n"
    text = tables.page(page, {"one": RESULT})
    assert text.startswith("before\n<!-- bench:summary -->\n| work |")
    assert text.endswith("| a | b | c |\n<!-- /bench -->\nafter\n")
    assert tables.page(text, {"one": RESULT}) == text


def test_picture_has_a_line_for_each_side(tables: Any) -> None:
    """The growth picture is well-formed and draws every measured point."""
    from xml.etree import ElementTree

    points = {"ours": [[100, 0.1], [1000, 0.2]], "plain": [[100, 3], [1000, 30]]}
    root = ElementTree.fromstring(tables.picture({"curves": {"fork": points, "read": points}}))
    assert len(root.findall("{http://www.w3.org/2000/svg}circle")) == 8


RESULT: dict[str, Any] = {
    "claim": "some work",
    "date": "2026-11-21T00:00:00+00:00",
    "took_s": 1.0,
    "quick": False,
    "rows": [
        {"label": "ours", "value": 12345.6, "unit": "files/s", "target": None, "met": None},
        {"label": "ours / peer", "value": 1.5, "unit": "x", "target": ">= 2", "met": False},
    ],
    "summary": {"work": "a", "ours": "b", "beside": "c"},
    "measures": {"work": {"ours": {"durability": "full"}, "peer": {"durability": "none"}}},
    "notes": [],
    "machine": {"cpu": "c", "cores": 2, "filesystem": "ext4", "kernel": "k", "load_before": 0},
    "versions": {"python": "3.11"},
}
