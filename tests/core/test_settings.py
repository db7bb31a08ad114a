"""The home's settings file."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmos.errors import HomeError
from fmos.settings import Settings, read_settings


def test_a_home_without_the_file_has_the_defaults(tmp_path: Path) -> None:
    """No file is no error."""
    assert read_settings(tmp_path) == Settings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[audit\n", "is not TOML"),
        ("[audits]\n", "'audits' is no setting"),
        ("[audit]\nnonsense = 1\n", "'audit.nonsense' is no setting"),
        ("audit = 1\n", "'audit' - Input should be"),
    ],
)
def test_what_is_not_understood_is_named(tmp_path: Path, text: str, said: str) -> None:
    """A mistake in the file is an error with the file's path and the key."""
    (tmp_path / "fmos.toml").write_text(text, encoding="utf-8")
    with pytest.raises(HomeError, match=said) as raised:
        read_settings(tmp_path)
    assert str(tmp_path / "fmos.toml") in str(raised.value)
