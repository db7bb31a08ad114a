"""The rules find what they describe, nothing that only looks like it, in linear time."""

from __future__ import annotations

import base64
import hashlib
import re
import string
import subprocess
import time
import tomllib
import uuid
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmos.redaction import CLASSES, engine, find, rules

ROOT = Path(__file__).resolve().parents[3]
EVERYTHING = ("secrets", "pii")

#: Where this repository has secrets on purpose, all of them invented.
PLANTED = ("tests/",)
#: What a page shows being found.
SHOWN = {("docs/trust-gate.md", "Zq8rT2mVx91LpW4k")}

HOSTILE = {
    "jwt": "-eyJAAAAAAAA",
    "pem": "-----BEGIN PRIVATE KEY-----\n",
    "dsn": "://aaa:",
    "mail": "a@a.",
    "curl": "curl -u ",
    "login": "login a ",
    "digits": "1234-",
    "assigned": "key=a1B2c3D4",
    "many": "token='a1B2c3D4e5F6' ",
    "bearer": "authorization: bearer ",
}

FALSE_FRIENDS = {
    "git": "commit " + hashlib.sha1(b"a").hexdigest() + "\nAuthor: Ann",
    "uuid": f"id = {uuid.UUID(int=0x9FA3B1C2D4E5F60718293A4B5C6D7E8F)}",
    "lock file": '"integrity": "sha512-'
    + base64.b64encode(hashlib.sha512(b"a").digest()).decode() + '",',
    "hashes": 'hash = "sha256:' + hashlib.sha256(b"b").hexdigest() + '"',
    "minified": "!function(e,t){var n=e.key||t.token;n=n2.getKey(a1.b2);return n}(a,b);key:t3.b4c5",
    "image": "<img src='data:image/png;base64,"
    + base64.b64encode(hashlib.shake_256(b"c").digest(3000)).decode() + "'>",
    "identifier": "api_key = Mixed123value; token = settings2.apiTokenValue",
    "code": 'token = os.environ["API_TOKEN"]; password = getpass2(prompt)',
    "public": "public_key: A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=",
    "numbers": "max_tokens: 16000000, order 4111111111111112, 999.1.2.3",
}  # fmt: skip

PERSONAL = {
    "card-number": ("4111 1111 1111 1111", "4111 1111 1111 1112"),
    "iban": ("DE89 3704 0044 0532 0130 00", "DE88 3704 0044 0532 0130 00"),
    "us-ssn": ("536-22-1234", "666-22-1234"),
    "uk-nino": ("QQ 12 34 56 C".replace("QQ", "AB"), "GB 12 34 56 C"),
    "email-address": ("ann.lee@example.org", "ann.lee@"),
    "phone-number": ("+49 30 901820", "+1 1 1 1"),
    "ip-address": ("93.184.216.34", "192.168.1.20"),
}


@pytest.fixture(params=["re2", "standard library"])
def either_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """RE2, and what runs where it is not installed."""
    if request.param == "re2":
        pytest.importorskip("re2")
        yield
        return
    monkeypatch.setattr(engine, "_re2", lambda: None)
    engine._catalogue.cache_clear()
    yield
    monkeypatch.undo()
    engine._catalogue.cache_clear()


def kinds(text: str, classes: tuple[str, ...] = EVERYTHING) -> list[str]:
    """Return the rules that find something in a text."""
    return [span.rule.id for span in find(text, classes)]


@pytest.mark.parametrize("rule", [each for each in rules() if each.regex], ids=lambda rule: rule.id)
@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data())
def test_the_search_for_keywords_passes_over_nothing(rule: engine.Rule, data: Any) -> None:
    """Whatever a pattern matches has one of the keywords that are looked for first."""
    pattern = re.compile(rule.regex.replace("(?i)", ""), re.ASCII | re.IGNORECASE)
    text = data.draw(
        st.from_regex(pattern, fullmatch=True, alphabet=st.characters(max_codepoint=127))
    )
    assert not rule.keywords or any(word in text.lower() for word in rule.keywords)


def test_the_data_file_is_what_it_says() -> None:
    """Each rule has an id of its own, a class, small keywords, and repeats that can be bounded."""
    text = resources.files("fmos.redaction").joinpath("rules.toml").read_text("utf-8")
    told = tomllib.loads(text)["rules"]
    assert len({each["id"] for each in told}) == len(told) >= 45
    for each in told:
        assert set(each["tags"]) & set(CLASSES), each["id"]
        assert all(word == word.lower() for word in each.get("keywords", ()))
        unescaped = re.sub(r"\\.|\[[^\]]*\]", "", each["regex"])
        assert not re.search(r"[*+]", unescaped), each["id"]
        assert "secrets" not in each["tags"] or each.get("keywords"), each["id"]


@pytest.mark.parametrize("name", FALSE_FRIENDS)
def test_what_only_looks_like_a_secret_is_none(name: str, either_engine: Any) -> None:
    """Hashes, ids, lock files, minified code and images are not secrets."""
    assert kinds(FALSE_FRIENDS[name], ("secrets",)) == []


def test_this_repository_has_no_secret_but_the_planted_ones() -> None:
    """No source file, page or example of ours is taken for a secret."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found: list[str] = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if name.startswith(PLANTED) or not path.is_file():
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        found += [
            f"{name}: {span.rule.id}"
            for span in find(text)
            if (name, text[span.start : span.end]) not in SHOWN
        ]
    assert found == []


@pytest.mark.parametrize("kind", PERSONAL)
def test_personal_data_needs_its_check_digits(kind: str, either_engine: Any) -> None:
    """A number counts only if it can be one; hidden is what was found."""
    real, unreal = PERSONAL[kind]
    (span,) = [each for each in find(f"it is {real}, yes", ("pii",)) if each.rule.id == kind]
    assert f"it is {real}, yes"[span.start : span.end] == real
    assert kind not in kinds(f"it is {unreal}, yes", ("pii",))
    assert kinds(f"it is {real}, yes", ("secrets",)) == []


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_takes_linear_time(name: str) -> None:
    """A megabyte made to hold a pattern up takes a fraction of a second with RE2."""
    pytest.importorskip("re2")
    text = HOSTILE[name] * (1_000_000 // len(HOSTILE[name]))
    find("warm up: token=a1B2c3D4e5F6", EVERYTHING)
    took: list[float] = []
    for _ in range(3):
        begin = time.process_time()
        find(text, ("secrets",))
        took.append(time.process_time() - begin)
    assert min(took) < (0.2 if name == "jwt" else 2), took


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_takes_linear_time_without_re2(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice the text takes about twice the time, for want of RE2 as well."""
    monkeypatch.setattr(engine, "_re2", lambda: None)
    engine._catalogue.cache_clear()
    try:
        half = HOSTILE[name] * (100_000 // len(HOSTILE[name]))
        find(half[:100], EVERYTHING)
        begin = time.process_time()
        find(half, ("secrets",))
        once = time.process_time() - begin
        begin = time.process_time()
        find(half * 2, ("secrets",))
        assert time.process_time() - begin < 4 * once + 0.2
    finally:
        monkeypatch.undo()
        engine._catalogue.cache_clear()


@given(text=st.text())
def test_places_are_those_of_the_text(text: str) -> None:
    """Whatever stands before a secret, half characters and emoji too, its place is right."""
    value = "ghp_" + "a1B2" * 9
    said = f"{text} {value} {text}"
    assert value in [said[span.start : span.end] for span in find(said)]


def test_both_engines_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found does not depend on whether RE2 is installed."""
    pytest.importorskip("re2")
    text = "\n".join(
        path.read_text("utf-8") for path in sorted((ROOT / "tests" / "trust").glob("*.py"))
    )
    with_re2 = [span[:2] for span in find(text, EVERYTHING)]
    monkeypatch.setattr(engine, "_re2", lambda: None)
    engine._catalogue.cache_clear()
    try:
        assert [span[:2] for span in find(text, EVERYTHING)] == with_re2
    finally:
        monkeypatch.undo()
        engine._catalogue.cache_clear()
    assert with_re2


@given(value=st.text(string.ascii_letters + string.digits, min_size=36, max_size=36))
def test_a_full_width_secret_is_one(value: str) -> None:
    """Letters that equal ASCII ones are read as these."""
    wide = "".join(chr(ord(each) + 0xFEE0) for each in f"ghp_{value}")
    (span,) = find(f"token is {wide} ok")
    assert (span.start, span.end) == (9, 9 + len(wide))
