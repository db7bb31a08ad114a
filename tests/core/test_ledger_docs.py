"""docs/ledger.md says what the ledger does: its blocks run, and print what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.core.console_blocks import blocks, printed_by

PAGE = Path(__file__).parents[2] / "docs" / "ledger.md"


def test_the_page_prints_what_it_says() -> None:
    """Its Python blocks are one program; a text block is the output of the one before it."""
    names: dict[str, Any] = {"__name__": "page"}
    printed, compared = "", 0
    for block in blocks(PAGE):
        if block.language == "text":
            assert printed == block.text
            compared += 1
            continue
        assert block.language == "python"
        printed = printed_by(block, PAGE, names)
    assert compared == 9
