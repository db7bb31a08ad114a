"""docs/telemetry.md says what telemetry tells: its blocks run, and print what they say."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.core.console_blocks import blocks, printed_by

pytest.importorskip("opentelemetry.sdk", reason="needs the extra `otel`")

from fmos import telemetry
from fmos.settings import Settings, TelemetrySettings
from fmos.telemetry import names

PAGE = Path(__file__).parents[2] / "docs" / "telemetry.md"
#: What differs from run to run, or when others write rows too: ids, digests, rows' numbers.
CHANGES = re.compile(r"[0-9a-f]{64}|[0-9a-f]{32}|[0-9a-f]{16}|(?<=row )\d+|(?<=seq {8})\d+")


@pytest.fixture(autouse=True)
def switched_off() -> Iterator[None]:
    """The page begins and ends with telemetry off."""
    telemetry.shutdown(0)
    yield
    telemetry.shutdown(0)


def test_the_page_prints_what_it_says() -> None:
    """Its Python blocks are one program; a block of output is that of the one before it."""
    scope: dict[str, Any] = {"__name__": "page"}
    printed, compared = "", 0
    for block in blocks(PAGE):
        if block.language == "text":
            assert CHANGES.sub("ID", printed) == CHANGES.sub("ID", block.text)
            compared += 1
        elif block.language == "toml":
            Settings.model_validate(tomllib.loads(block.text))
        elif block.language == "python":
            printed = printed_by(block, PAGE, scope)
    assert compared == 3


def test_the_page_has_every_setting_attribute_and_metric() -> None:
    """Whatever can be set or sent is on the page."""
    page = PAGE.read_text(encoding="utf-8")
    told = {value for value in vars(names).values() if isinstance(value, str)}
    told = {value for value in told if re.fullmatch(r"(fmos|gen_ai|mcp)\..*", value)}
    # What metrics are told by, what others say as well, and the prefix of the layers.
    told -= {names.LAYER, names.RESOURCE, names.AGENT_NAME, names.TOKEN_TYPE, names.MCP_VERSION}
    told -= {names.__name__, names.__package__}
    missing = {each for each in told if f"`{each}`" not in page}
    assert not missing
    assert not [name for name in TelemetrySettings.model_fields if f"| `{name}` |" not in page]


def test_links_of_the_page_lead_somewhere() -> None:
    """Files exist, and sections are those of the page."""
    page = PAGE.read_text(encoding="utf-8")
    titles = re.findall(r"^## (.*)$", page, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in titles}
    for target in re.findall(r"\]\(([^)]+)\)", page):
        if target.startswith("#"):
            assert target[1:] in anchors
        elif not target.startswith("https://"):
            assert (PAGE.parent / target).exists(), target
