"""What people read has no secrets in it, and keeps its ids, paths and words."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from fmos.redaction import Redactor, find_secrets, redacted
from fmos.redaction.checks import entropy, reads_like_words

_VALUES = st.text(string.ascii_letters + string.digits, min_size=20, max_size=40).filter(
    lambda value: any(map(str.isdigit, value)) and any(map(str.isalpha, value))
    and entropy(value.encode()) >= 3 and not reads_like_words(value.encode())
)  # fmt: skip


@given(value=_VALUES, before=st.text(max_size=20), nested=st.booleans())
def test_a_planted_secret_never_survives(value: str, before: str, nested: bool) -> None:
    """An assigned secret is hidden in every text of a session, wherever it stands in the JSON."""
    redactor = Redactor()
    redactor.learn({"text": f'api_key = "{value}"'})
    said = {"a": [f"{before} {value}", {value: before}]} if nested else f"{before} {value} {before}"
    assert value not in repr(redactor.redacted(said))


def test_what_looks_random_is_hidden() -> None:
    """A token that no pattern knows is hidden by its letters alone."""
    assert redacted("use 9fK2mQ7xZ4bV1nT8wR3yL6pD to log in") == "use <high-entropy> to log in"


def test_ids_paths_and_words_stay() -> None:
    """Operation ids, digests, paths and long words are no secrets."""
    text = (
        "call 01a201150f6b7a18a6699e734ed70829 wrote /home/Ann/Project2/src/module_Three4/file5.py,"
        " sha256 " + "0123456789abcdef" * 4 + ", InternationalisationAndLocalisation"
    )
    assert redacted(text) == text


def test_a_word_that_equals_one_only_beyond_ascii_is_found() -> None:
    """A long s stands for an s where case does not matter, here as in the expression."""
    assert [each.kind for each in find_secrets("my_\u017fecret = 'a9fK2mQ7xZ4bV1n'")] == [
        "assigned-secret"
    ]
