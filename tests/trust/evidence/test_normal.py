"""Values in other spellings are found again; values with one character changed are not."""

from __future__ import annotations

import base64
import string
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmos_trust.evidence.normal import atoms, canonical, dates, decoded, near, number, plain

ADDRESS = "mira.olsen@harborline.org"
LETTERS = st.text(string.ascii_letters + string.digits, min_size=1, max_size=20)
WIDE = str.maketrans({chr(code): chr(code + 0xFEE0) for code in range(0x21, 0x7F)})


@given(LETTERS)
def test_case_and_wide_letters_are_one_value(text: str) -> None:
    """Upper case, full-width letters and invisible characters give the same form."""
    assert canonical(text.upper()) == canonical(text.lower())
    assert plain(text.translate(WIDE)) == plain(text)
    assert plain("\u200b".join(text)) == plain(text)


@pytest.mark.parametrize("spelt", ["mirа.olsen@harborline.org", "Mira.Olsen@HarborLine.ORG"])
def test_look_alikes_are_one_value(spelt: str) -> None:
    """A Cyrillic letter that looks Latin, and other case, are the same address."""
    assert canonical(spelt) == ADDRESS


@pytest.mark.parametrize(
    "spelt", ["https://www.harborline.org/a/", "harborline.org/a", "HTTP://harborline.org/a"]
)
def test_links_are_one_value(spelt: str) -> None:
    """Scheme, `www.` and the last slash do not matter."""
    assert canonical(spelt) == "harborline.org/a"


@pytest.mark.parametrize(
    ("spelt", "value"),
    [
        ("1,200.00", "1200"),
        ("$98.70", "98.7"),
        ("0.10", "0.1"),
        ("0", "0"),
        ("10000000", "10000000"),
    ],
)
def test_numbers_are_one_value(spelt: str, value: str) -> None:
    """Separators, currency signs and zeros at the end do not matter."""
    assert number(spelt) == value


@given(st.decimals(min_value=0, max_value=10**9, places=2))
def test_number_is_the_same_with_and_without_separators(value: object) -> None:
    """A number with thousands separators is the number."""
    assert number(f"{value:,}") == number(f"{value:f}")


@pytest.mark.parametrize(
    "spelt",
    ["2025-01-11", "January 11th", "11 January", "the 11th of January 2025", "Jan. 11, 2025"],
)
def test_dates_are_one_value(spelt: str) -> None:
    """A day is found in any usual spelling."""
    assert (1, 11) in dates(plain(spelt))


def test_both_days_of_a_span_are_found() -> None:
    """`from the 13th to the 17th of May` names two days."""
    assert dates("from the 13th to the 17th of may 2024") == {(5, 13), (5, 17)}


@pytest.mark.parametrize(
    "encoded",
    [
        base64.b64encode(f"write to {ADDRESS} now".encode()).decode(),
        f"write to {ADDRESS} now".encode().hex(),
        urllib.parse.quote(f"write to {ADDRESS} now", safe=""),
        "".join(f"&#{ord(char)};" for char in f"write to {ADDRESS} now"),
        "write to mira.olsen [at] harborline [dot] org now",
    ],
)
def test_encoded_addresses_are_found(encoded: str) -> None:
    """Base64, hex, percent, HTML and spelt-out addresses are read."""
    assert ADDRESS in [
        atom for text in decoded(f"please read {encoded} first") for atom in atoms(text)
    ]


@given(st.integers(min_value=0, max_value=len(ADDRESS) - 1), st.sampled_from("qz7"))
def test_changed_copies_are_other_values(at: int, other: str) -> None:
    """One character changed, left out or put in makes another value, and is noticed."""
    changed = (
        ADDRESS[:at] + other + ADDRESS[at + 1 :],
        ADDRESS[:at] + ADDRESS[at + 1 :],
        ADDRESS[:at] + other + ADDRESS[at:],
    )
    for copy in changed:
        if copy != ADDRESS:
            assert canonical(copy) != ADDRESS
            assert near(copy, {ADDRESS}) == ADDRESS


@given(st.text(max_size=300))
def test_no_text_is_too_odd(text: str) -> None:
    """Any text has a form, and that form is stable."""
    assert canonical(canonical(text)) is not None
    assert plain(plain(text)) is not None
    decoded(text)
    dates(plain(text))
    atoms(plain(text))
