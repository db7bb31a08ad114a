"""The citation verifier: quotations, statements, numbers, and ids that lead nowhere."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmos.verify.citations import CitationVerifier
from fmos.verify.model import Claim, Context, Finding, NamedSources, Source

BRIDGE = """The Sydney Harbour Bridge was opened in 1932. It is 1,149 metres  long and weighs
52,800 tonnes. About 79% of the steel was imported from England, the rest came from Newcastle.
The bridge was painted grey. Sixteen workers died. The cost was 4,217,722 pounds. It has two
pylons at each end."""
SOURCES = {"bridge": BRIDGE, "other": "Nothing about bridges is said here at all."}


def check(statement: str, *sources: str, **content: Any) -> Finding:
    """What the verifier says of a statement that cites sources."""
    claim = Claim(
        type="citation",
        text=statement,
        content={"statement": statement, **content},
        sources=sources or ("bridge",),
    )
    return CitationVerifier().check(claim, Context(sources=NamedSources(SOURCES)))


@pytest.mark.parametrize(
    "quote",
    [
        "The bridge was painted grey",
        "it is 1,149 metres long and weighs 52,800 tonnes",
        "About 79% of the steel was imported from england",
    ],
)
def test_quotations_are_found_but_for_case_and_spaces(quote: str) -> None:
    """Line breaks, spaces and capitals do not matter."""
    assert check(f'It says "{quote}".', quotes=[quote]).verdict == "supported"


@pytest.mark.parametrize(
    "quote",
    [
        "The bridge was painted green and gold",
        "The bridge was not painted grey",
        "Sixteen workers never died",
        "About 79% of the steel was not imported from England, the rest came from Newcastle. "
        "The bridge was painted grey",
        "It is 149 metres long",
    ],
)
def test_quotations_that_are_changed_are_refuted(quote: str) -> None:
    """Other words, a denial put in, or a part of a number."""
    assert check(f'It says "{quote}".', quotes=[quote]).verdict == "refuted"


@pytest.mark.parametrize(
    "statement",
    [
        "The bridge was opened in 1932.",
        "Most of the steel, 79 %, was imported from England.",
        "It weighs 52 800 tonnes and is 1149 metres long.".replace(" 800", "\u202f800"),
        "The cost was 4.2 million pounds.",
        "It has 2 pylons at each end.",
    ],
)
def test_statements_in_other_words_are_supported(statement: str) -> None:
    """Most of the words that matter stand together, and every number is there."""
    assert check(statement).verdict == "supported", check(statement)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("The bridge was opened in 1923.", "number 1923"),
        ("About 97 % of the steel was imported from England.", "number 97"),
        ("The moon consists of cheese and honey.", "nothing of the kind"),
        ("The cost was 4.3 million pounds.", "4.3 million"),
    ],
)
def test_what_the_source_does_not_say_is_refuted(statement: str, said: str) -> None:
    """A number that is not there, or nothing in common."""
    found = check(statement)
    assert (found.verdict, said in found.explanation) == ("refuted", True), found


def test_a_denial_is_not_taken_for_support() -> None:
    """Shared words do not support the opposite."""
    assert check("The bridge was not painted grey.").verdict == "undecided"


def test_ids_that_lead_nowhere_are_refuted() -> None:
    """A citation of a source that is not there is broken."""
    found = check("The bridge was opened in 1932.", "bridge", "9")
    assert (found.verdict, found.explanation) == ("refuted", "there is no source '9'")


def test_a_source_may_be_pinned_by_its_content() -> None:
    """A citation with a digest holds only for that content."""
    digest = Source("bridge", BRIDGE).digest
    assert check("The bridge was opened in 1932.", f"bridge@sha256:{digest}").verdict == "supported"
    found = check("The bridge was opened in 1932.", "bridge@sha256:" + "0" * 64)
    assert (found.verdict, "not the one" in found.explanation) == ("refuted", True)


def test_one_of_several_sources_is_enough() -> None:
    """A statement that cites two is supported by the better one."""
    assert check("The bridge was opened in 1932.", "other", "bridge").verdict == "supported"


@given(st.integers(0, 400), st.integers(20, 120))
def test_any_piece_of_a_source_is_found(start: int, length: int) -> None:
    """What was copied out at word borders is always found."""
    words = BRIDGE.split()
    first = start % len(words)
    piece = " ".join(words[first : first + max(3, length // 10)])
    assert check(f'"{piece}"', quotes=[piece]).verdict == "supported"


def test_hostile_sources_take_little_time() -> None:
    """A word that stands everywhere, and sentences of nothing else."""
    sources = NamedSources({"s": "spam " * 100_000, "t": "a\n" * 100_000})
    claim = Claim(
        type="citation", text="x", content={"statement": "spam eggs " * 2_000}, sources=("s", "t")
    )
    start = time.process_time()
    CitationVerifier().check(claim, Context(sources=sources))
    assert time.process_time() - start < 3
