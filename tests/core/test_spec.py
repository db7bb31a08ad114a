"""The published JSON schemas."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmos.spec import main, schemas, stale, write

SPEC = Path(__file__).parents[2] / "docs" / "spec"


def test_the_committed_schemas_are_current() -> None:
    """docs/spec says what the code does; `python -m fmos.spec --write docs/spec` makes it so."""
    assert stale(SPEC) == []


def test_check_names_what_is_not_current(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing, a changed and a left-over schema are named, and writing repairs all three."""
    assert main(["--write", str(tmp_path)]) == 0
    assert main(["--check", str(tmp_path)]) == 0
    (tmp_path / "verdict.schema.json").write_text("{}", encoding="utf-8")
    (tmp_path / "step.schema.json").unlink()
    (tmp_path / "gone.schema.json").write_text("{}", encoding="utf-8")
    assert main(["--check", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert "gone.schema.json, step.schema.json, verdict.schema.json; run" in message
    assert write(tmp_path) == 3
    assert stale(tmp_path) == []


def test_the_contract_schema_uses_the_documents_names() -> None:
    """The schema has `class`, as documents do, and not the attribute's name."""
    text = schemas()["agent-contract.schema.json"]
    assert '"class": {' in text
    assert "class_" not in text
