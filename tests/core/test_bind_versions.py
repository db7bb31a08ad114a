"""Names with versions and ranges of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmos.contract.versions import parse_name, parse_wanted
from fmos.errors import ArgumentError


@pytest.mark.parametrize(
    ("text", "base", "version"),
    [
        ("asr_local_v2", "asr_local_", (2,)),
        ("asr_local_v2.10", "asr_local_", (2, 10)),
        ("llama-v3.0.0", "llama-", (3,)),
        ("v2", "", (2,)),
        ("org/model/v02", "org/model/", (2,)),
        ("a_v1_v2", "a_v1_", (2,)),
        ("cloud/70B", "cloud/70B", ()),
        ("valve7", "valve7", ()),
        ("asr_v2beta", "asr_v2beta", ()),
    ],
)
def test_a_version_is_read_from_the_end_of_a_name(
    text: str, base: str, version: tuple[int, ...]
) -> None:
    """Only numbers behind a separated `v` are a version."""
    name = parse_name(text)
    assert (name.base, name.version) == (base, version)


@pytest.mark.parametrize(
    ("wanted", "inside", "outside"),
    [
        ("asr_v2..v3", ["asr_v2", "asr_v2.9", "asr_v3.0"], ["asr_v1.9", "asr_v3.1", "asr"]),
        ("asr_v2.1..v3", ["asr_v2.1", "asr_v2.10"], ["asr_v2", "asr_v2.0.9"]),
        ("asr_v9..asr_v10", ["asr_v9", "asr_v10", "asr_v9.9"], ["asr_v1", "asr_v11"]),
        ("v2..v3", ["v2", "v3"], ["asr_v2", "v4"]),
        ("asr_v2", ["asr_v2", "asr_v2.0"], ["asr_v2.1", "asr", "tts_v2"]),
        ("asr", ["asr"], ["asr_v1"]),
    ],
)
def test_ranges_are_inclusive_and_compare_numbers(
    wanted: str, inside: list[str], outside: list[str]
) -> None:
    """`v10` is above `v9`, and both ends belong to the range."""
    parsed = parse_wanted(wanted)
    assert [name for name in inside + outside if parsed.admits(parse_name(name))] == inside


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("asr_v3..v2", "'asr_v3..v2' is empty"),
        ("asr..v2", "'asr' has no version"),
        ("asr_v2..", "'' has no version"),
        ("asr_v2..tts_v3", "joins two things: 'asr_' and 'tts_'"),
    ],
)
def test_a_wrong_range_is_named_with_the_way_out(wanted: str, said: str) -> None:
    """The sentence holds the range and what to write instead."""
    with pytest.raises(ArgumentError) as caught:
        parse_wanted(wanted)
    assert said in str(caught.value)
    assert "; write" in str(caught.value)


_VERSIONS = st.lists(st.integers(0, 30), min_size=1, max_size=3)


@given(_VERSIONS, _VERSIONS, _VERSIONS)
def test_a_range_admits_exactly_what_lies_between(a: list[int], b: list[int], c: list[int]) -> None:
    """Membership is the order of the numbers, with missing ones taken as zero."""
    low, high = sorted((a, b), key=_padded)
    texts = ["v" + ".".join(map(str, numbers)) for numbers in (low, high, c)]
    wanted = parse_wanted(f"x_{texts[0]}..{texts[1]}")
    between = _padded(low) <= _padded(c) <= _padded(high)
    assert wanted.admits(parse_name(f"x_{texts[2]}")) == between


def _padded(numbers: list[int]) -> list[int]:
    return numbers + [0] * (3 - len(numbers))
