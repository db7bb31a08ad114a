"""docs/ledger.md says what the ledger does: its blocks run, and print what they say."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "ledger.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_the_page_prints_what_it_says() -> None:
    """Its Python blocks are one program; a text block is the output of the one before it."""
    page = PAGE.read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "page"}
    printed, compared = "", 0
    for found in BLOCK.finditer(page):
        language, text = found.groups()
        if language == "text":
            assert printed == text
            compared += 1
            continue
        assert language == "python"
        line = page.count("\n", 0, found.start(2))
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile("\n" * line + text, str(PAGE), "exec"), names)
        printed = out.getvalue()
    assert compared == 9
