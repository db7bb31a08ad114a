"""docs/replay.md and docs/report.md print what they say, and the picture is what they draw."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.core.console_blocks import commands, fill, run, steady
from tests.core.journals import write_journal
from tests.core.sessions import CONTRACT, put_contract, run_session

from fmos.runtime.kernel import Kernel

_DOCS = Path(__file__).parents[2] / "docs"
_PICTURE = _DOCS / "images" / "report-spend.svg"
_STRICTER = CONTRACT.replace('"read_file", "write_file", "send_mail"', '"write_file"')


def _replay_page(home: Path) -> Iterator[tuple[str, str]]:
    with Kernel.open(home) as kernel:
        run_session(kernel)
    for line, printed in commands(_DOCS / "replay.md"):
        if "current" in line:
            put_contract(home, _STRICTER)
        yield printed, run(line, home).output


def _report_page(home: Path) -> Iterator[tuple[str, str]]:
    write_journal(home / "tenants" / "default.afs", 400)
    put_contract(home)
    for line, printed in commands(_DOCS / "report.md"):
        yield printed, run(line, home).output


def test_the_page_on_replay_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command gives the page's output, but for times of day, ids and hashes."""
    monkeypatch.chdir(tmp_path)
    pairs = list(_replay_page(tmp_path / "home"))
    assert len(pairs) == 4
    for said, printed in pairs:
        assert steady(printed) == steady(said)


def test_the_page_on_reports_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command gives the page's output, and the picture has the page's text in it."""
    pytest.importorskip("duckdb")
    monkeypatch.chdir(tmp_path)
    pairs = list(_report_page(tmp_path / "home"))
    assert len(pairs) == 4
    for said, printed in pairs:
        assert printed == said
    drawn, kept = (
        list(ElementTree.parse(path).getroot().itertext())
        for path in (tmp_path / "report-spend.svg", _PICTURE)
    )
    assert drawn == kept


def write_pages(folder: Path) -> None:
    """Write into both pages what their commands print; run it in the empty `folder`."""
    fill(_DOCS / "replay.md", [printed for _, printed in _replay_page(folder / "replay")])
    fill(_DOCS / "report.md", [printed for _, printed in _report_page(folder / "report")])
