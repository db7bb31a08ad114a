"""The page's section on redaction is true: its code prints what it says, its settings are there."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from fmos.runtime.kernel import Kernel
from fmos.settings import TrustSettings

_PAGE = (Path(__file__).parents[3] / "docs" / "trust-gate.md").read_text(encoding="utf-8")
_SECTION = _PAGE[_PAGE.index("## Redaction\n") :].partition("\n## ")[0]


def test_the_code_prints_what_the_page_says(kernel: Kernel) -> None:
    """The block runs as it stands, over a fresh home."""
    code, said = re.findall(r"```(?:python|text)\n(.*?)```", _SECTION, flags=re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "docs/trust-gate.md", "exec"), {"kernel": kernel})
    assert printed.getvalue() == said


def test_the_settings_are_those_of_the_section() -> None:
    """Each row names a setting with its default."""
    rows = re.findall(r"^\| `([a-z_]+)` \| `?([^|`]+)`? \|", _SECTION, flags=re.MULTILINE)
    own = TrustSettings()
    for name, default in rows:
        value = getattr(own, name)
        shown = str(list(value)).replace("'", '"') if isinstance(value, tuple) else str(int(value))
        assert shown == default.strip(), name
    assert len(rows) == 5
