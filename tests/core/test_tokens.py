"""Token counts: offline, on the high side, quick for long texts."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fmos.tokens import ByteCounter, VocabularyCounter, default_counter, vocabulary_path


def test_default_counts_with_the_shipped_vocabulary() -> None:
    """With wordllama installed a sentence counts about as a model would, never less."""
    assert isinstance(default_counter(), VocabularyCounter)
    assert default_counter() is default_counter()
    assert 10 <= default_counter().count("The quick brown fox jumps over the lazy dog") <= 16
    assert default_counter().count("") == 0


def test_long_text_is_counted_by_sample() -> None:
    """Beyond the exact size the sampled count stays within a few percent of the exact one."""
    text = "".join(f"row {number}: the value is {number * 7919}\n" for number in range(3_000))
    path = vocabulary_path()
    assert path is not None
    counter = VocabularyCounter(path)
    exact = sum(
        counter.count(text[start : start + 20_000]) for start in range(0, len(text), 20_000)
    )
    assert counter.count(text) == pytest.approx(exact, rel=0.05)


def test_byte_counter_rounds_up() -> None:
    """Without a vocabulary three bytes are a token."""
    assert [ByteCounter().count(text) for text in ("", "a", "abc", "abcd", "日本")] == [
        0,
        1,
        1,
        2,
        2,
    ]


def test_counting_loads_no_numpy() -> None:
    """The vocabulary is found and read without importing wordllama or numpy."""
    code = (
        "import sys; from fmos.tokens import default_counter; default_counter().count('x');"
        "assert not {'numpy', 'wordllama', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
