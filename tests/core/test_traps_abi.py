"""The trap ABI: the vectors are current, and a reader made from the page alone passes them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from tests.core import trap_abi_reader as reader

from fmos.traps import vectors
from fmos.traps.wire import TableError, canonical

_FOLDER = Path(__file__).parents[2] / "docs" / "spec" / "vectors"


def _read(name: str) -> dict[str, Any]:
    return json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def test_the_vectors_are_current() -> None:
    """`python -m fmos.traps.vectors --write docs/spec/vectors` would change nothing."""
    assert vectors.stale(_FOLDER) == []
    assert vectors.main(["--check", str(_FOLDER)]) == 0


def test_a_changed_vector_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The check names what differs, and writing brings it up to date."""
    assert vectors.main(["--write", str(tmp_path)]) == 0
    (tmp_path / "globs.json").write_text("{}")
    assert vectors.main(["--check", str(tmp_path)]) == 1
    assert "globs.json" in capsys.readouterr().err


@pytest.mark.parametrize("case", _read("normalise")["cases"], ids=lambda case: case["path"])
def test_another_reader_normalises_alike(case: dict[str, Any]) -> None:
    """The second implementation agrees on the path, and on what is a doubt."""
    assert reader.normalise(case["path"]) == case["normalised"]
    assert reader.plain(case["path"]) == case["plain"]


def test_another_reader_matches_globs_alike() -> None:
    """The second implementation agrees on every glob and path."""
    for case in _read("globs")["cases"]:
        assert reader.covered(case["scopes"], case["path"]) == case["covered"], case


def test_another_reader_classifies_alike() -> None:
    """The second implementation agrees on every call, and both classes occur."""
    document = _read("classify")
    found = [
        reader.innocuous(
            document["table"], case["kind"], case["name"], case["arguments"], int(case["now_ns"])
        )
        for case in document["cases"]
    ]
    assert found == [case["innocuous"] for case in document["cases"]]
    assert 10 < sum(found) < len(found) - 10


def test_another_reader_signs_the_same_bytes() -> None:
    """Canonical JSON and the signing input agree byte by byte; only the curve is left out."""
    document = _read("signature")
    for case in document["canonical"]:
        assert reader.canonical(case["value"]) == case["utf8"] == canonical(case["value"]).decode()
    for case in document["documents"]:
        if case["signed_sha256"] is not None:
            made = hashlib.sha256(reader.signing_input(case["document"])).hexdigest()
            assert made == case["signed_sha256"], case["what"]


def test_only_the_sound_documents_are_usable() -> None:
    """Of the documents, the signed one and the one with a signed unknown field may be used."""
    usable = [case["what"] for case in _read("signature")["documents"] if case["usable"]]
    assert usable == ["as it was signed", "with a field that this version does not know, signed"]


@pytest.mark.parametrize(
    "value", [1.5, 2**53, 10**19, {1: 2}, "\ud800", b"x", [{"a": float("nan")}]], ids=repr
)
def test_what_json_readers_differ_on_is_refused(value: Any) -> None:
    """A fraction, an inexact number or broken text is an error, never bytes of our own."""
    with pytest.raises(TableError, match="trap table"):
        canonical(value)


def test_times_in_whole_seconds_are_exact_numbers() -> None:
    """A table's times survive a reader that holds every number in a double."""
    table = _read("classify")["table"]
    for name in ("issued_ns", "expires_ns", "serial"):
        assert int(float(table[name])) == table[name]
        assert f"{float(table[name]):.0f}" == str(table[name])
