"""A secret that was seen is found again whatever was done to it, and nothing else is."""

from __future__ import annotations

import base64
import html
import random
import string
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmos.audit.keys import AuditKeys
from fmos.redaction import Found
from fmos_trust.keyed import KeyedHash
from fmos_trust.redaction import exact
from fmos_trust.redaction.exact import Known
from fmos_trust.redaction.forms import Undone
from fmos_trust.secrets import find_known, known, masked

_SIGNS = "+/_-.~!@$"
_VALUES = st.text(string.ascii_letters + string.digits + _SIGNS, min_size=16, max_size=90).filter(
    lambda value: sum(map(str.isalnum, value)) >= 12
    and any(map(str.isdigit, value)) and len(set(value.lower())) > 8
)  # fmt: skip
_AROUND = st.text(max_size=12)


def _b64(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


#: Every way in which a value may leave.
ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": lambda value: value,
    "upper": str.upper,
    "lower": str.lower,
    "reversed": lambda value: value[::-1],
    "base64": _b64,
    "base64 from the second byte": lambda value: _b64("x" + value),
    "base64 from the third byte": lambda value: _b64("xy" + value),
    "base64 with more behind": lambda value: _b64(f"key={value}; rest of it"),
    "base64 for addresses": lambda value: (
        base64.urlsafe_b64encode(value.encode()).decode().rstrip("=")
    ),
    "base64 in lines": lambda value: base64.encodebytes((value * 3).encode()).decode(),
    "base64 of UTF-16": lambda value: base64.b64encode(value.encode("utf-16-le")).decode(),
    "base64 twice": lambda value: _b64(_b64(value)),
    "base64 of the reversed": lambda value: _b64(value[::-1]),
    "base64 reversed": lambda value: _b64(value)[::-1],
    "base64 of hex": lambda value: _b64(value.encode().hex()),
    "hex": lambda value: value.encode().hex(),
    "hex in capitals": lambda value: value.encode().hex(":").upper(),
    "hex bytes": lambda value: ",".join(f"0x{byte:02x}" for byte in value.encode()),
    "hex of base64": lambda value: _b64(value).encode().hex(),
    "percent": lambda value: "".join(f"%{byte:02X}" for byte in value.encode()),
    "percent where needed": lambda value: quote(value, safe=""),
    "percent twice": lambda value: quote("".join(f"%{b:02x}" for b in value.encode()), safe=""),
    "html": html.escape,
    "html numbers": lambda value: "".join(f"&#{ord(each)};" for each in value),
    "html hex numbers": lambda value: "".join(f"&#x{ord(each):X};" for each in value),
    "unicode escapes": lambda value: "".join(f"\\u{ord(each):04x}" for each in value),
    "byte escapes": lambda value: "".join(f"\\x{ord(each):02x}" for each in value),
    "one escape": lambda value: f"{value[:5]}%{ord(value[5]):02x}{value[6:]}",
    "spaced": lambda value: " ".join(value),
    "separated": lambda value: "-".join(value[i : i + 3] for i in range(0, len(value), 3)),
    "quoted apart": lambda value: '"+"'.join(value),
    "lines": lambda value: "\n".join(value[i : i + 4] for i in range(0, len(value), 4)),
    "zero width": lambda value: "\u200b".join(value),
    "joiners": lambda value: "\u2060\ufeff".join(value),
    "full width": lambda value: "".join(
        chr(ord(each) + 0xFEE0) if each.isalnum() else each for each in value
    ),
}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> KeyedHash:
    """Keyed digests of a fresh home."""
    return KeyedHash(AuditKeys(tmp_path_factory.mktemp("keys")))


def seen(keyed: KeyedHash, *values: str) -> Known:
    """Return what is kept of values."""
    return Known(known(Found("api-key", value), "read_file", keyed) for value in values)


@pytest.mark.parametrize("name", ENCODINGS)
@settings(max_examples=40, deadline=None)
@given(value=_VALUES, before=_AROUND, after=_AROUND)
def test_every_encoding_of_a_seen_secret_is_found(
    keyed: KeyedHash, name: str, value: str, before: str, after: str
) -> None:
    """Plain, changed or encoded, amid any text, the secret is found, and hidden with it."""
    sent = ENCODINGS[name](value)
    text = f"{before} {sent} {after}"
    hidden = seen(keyed, value)
    assert find_known(text, hidden, keyed), text
    shown = masked(text, hidden, keyed)
    assert find_known(shown, hidden, keyed) is None, shown
    assert "<api-key>" in shown


@settings(max_examples=60)
@given(value=_VALUES, data=st.data())
def test_a_secret_split_over_arguments_is_found(
    keyed: KeyedHash, value: str, data: st.DataObject
) -> None:
    """However it is cut, what is put together again from the texts of one call is recognised."""
    cuts = sorted(data.draw(st.lists(st.integers(1, len(value) - 1), min_size=1, max_size=3)))
    parts = [value[a:b] for a, b in zip([0, *cuts], [*cuts, len(value)], strict=True)]
    assert find_known(parts, seen(keyed, value), keyed)
    assert find_known(parts[::-1], seen(keyed, value), keyed)


@settings(max_examples=60)
@given(value=_VALUES, other=_VALUES, text=st.text())
def test_another_text_is_not_taken_for_the_secret(
    keyed: KeyedHash, value: str, other: str, text: str
) -> None:
    """Another random value, and half of the secret, are not the secret."""
    plain = "".join(filter(str.isalnum, value)).lower()
    if plain in "".join(filter(str.isalnum, other + text)).lower():
        return
    hidden = seen(keyed, value)
    assert find_known(f"{text} {other} {value[: len(value) // 2]}", hidden, keyed) is None


def test_a_password_of_signs_is_found(keyed: KeyedHash) -> None:
    """Where letters and digits are few, the signs count."""
    hidden = seen(keyed, "p@$$-w0!#")
    assert find_known("it is P@$$-W0!# ok", hidden, keyed)
    assert find_known("it is p w 0 ok", hidden, keyed) is None


def test_a_part_of_a_long_secret_is_found(keyed: KeyedHash) -> None:
    """A long token is recognised by its pieces too."""
    value = "".join(random.Random(3).choices(string.ascii_letters + string.digits, k=900))
    assert find_known(f"here: {value[:64]} and no more", seen(keyed, value), keyed)


def test_nothing_kept_tells_the_value(keyed: KeyedHash, tmp_path: Path) -> None:
    """Kept are lengths and digests, which differ under another key."""
    (item,) = seen(keyed, "Zq8rT2mVx91LpW4k")
    (other,) = seen(KeyedHash(AuditKeys(tmp_path)), "Zq8rT2mVx91LpW4k")
    assert b"Zq8r" not in item.forms
    assert b"zq8r" not in item.forms
    assert (item.digest, item.forms) != (other.digest, other.forms)
    assert item.length == other.length


def test_many_secrets_take_no_longer_than_one(keyed: KeyedHash) -> None:
    """100 KB against secrets of 50 lengths take at most 50 ms; repetitive text no longer."""
    pytest.importorskip("numpy")
    draw = random.Random(1)
    letters = string.ascii_letters + string.digits
    hidden = seen(keyed, *("".join(draw.choices(letters, k=size)) for size in range(10, 60)))
    texts = [
        "".join(draw.choices(letters, k=100_000)),
        "aB3" * 33_000,
        ("the quick brown fox %41 jumps &amp; runs " * 3_000)[:100_000],
        "a" * 100_000,
    ]
    for text in texts:
        took: list[float] = []
        for _ in range(4):
            begin = time.process_time()
            assert find_known(text, hidden, keyed) is None
            took.append(time.process_time() - begin)
        assert min(took) < 0.05, (text[:20], took)


def test_without_numpy_the_same_is_found(keyed: KeyedHash, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop finds what the arrays find."""
    hidden = seen(keyed, "Zq8rT2mVx91LpW4k")
    text = "x" * 300 + _b64("Zq8rT2mVx91LpW4k") + "y" * 300
    found = hidden.matches(text, keyed)
    monkeypatch.setattr(exact, "_numpy", lambda: None)
    assert hidden.matches(text, keyed) == found != []


@given(text=st.text(st.characters(max_codepoint=126), max_size=60))
def test_places_lead_back_to_the_text(text: str) -> None:
    """What an escape stands for leads back to where the escape begins."""
    data = "".join(f"%{ord(each):02x}" if each in "aeiou% " else each for each in text).encode()
    layer = Undone(data)
    at = 0
    for place, each in enumerate(layer.data):
        at = layer.place(place)
        assert data[at] == each or data[at : at + 1] in b"%&\\0", (data, layer.data)
    assert at <= len(data)
