"""The page's section on commands, paths and addresses is true."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from fmos_trust.operators import TYPES
from fmos_trust.reach import CLIENT_FILES

_PAGE = (Path(__file__).parents[3] / "docs" / "trust-gate.md").read_text(encoding="utf-8")
_SECTION = _PAGE[_PAGE.index("## Commands, paths, addresses\n") :].partition("\n## ")[0]


def test_the_code_prints_what_the_page_says() -> None:
    """The block runs as it stands."""
    code, said = re.findall(r"```(?:python|text)\n(.*?)```", _SECTION, flags=re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "docs/trust-gate.md", "exec"), {})
    assert printed.getvalue() == said


def test_the_table_has_every_type_and_the_text_protected_files() -> None:
    """Each type has its row, and the files that are named are protected."""
    rows = re.findall(r"^\| (`[^|]+`) \|", _SECTION, flags=re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(TYPES)
    named = re.findall(r"`(\.[\w./]+json|claude_\w+\.json|\.claude|\.git/\w+)`", _SECTION)
    assert named
    assert set(named) <= set(CLIENT_FILES)
