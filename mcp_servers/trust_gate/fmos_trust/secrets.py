"""Finds secrets in text that enters a session, and recognises them in text that would leave it.

Values are never kept: only their length and a keyed digest. Outgoing text is looked at as it is,
reversed, and with base64, hex and percent encodings undone (twice over), in windows of the
lengths that were seen.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from fmos_trust.keyed import KeyedHash

_MIN_LENGTH = 8
_MAX_LENGTH = 512
_MAX_WINDOWS = 1_000_000
_MAX_DECODINGS = 2


@dataclass(frozen=True, slots=True)
class Pattern:
    """One kind of secret; group 1 is the value when the pattern has one."""

    kind: str
    expression: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Found:
    """A secret in a text."""

    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class KnownSecret:
    """A secret that a session has seen."""

    kind: str
    length: int
    digest: bytes
    source: str


class TextTooLongError(ValueError):
    """The outgoing text is too long to be looked through."""


def _pattern(kind: str, expression: str) -> Pattern:
    return Pattern(kind, re.compile(expression))


_PATTERNS = (
    _pattern("aws-access-key", r"\b((?:AKIA|ASIA|AGPA|AROA|AIDA)[A-Z0-9]{16})\b"),
    _pattern("github-token", r"\b(gh[pousr]_[A-Za-z0-9]{30,255})\b"),
    _pattern("github-token", r"\b(github_pat_[A-Za-z0-9_]{40,255})\b"),
    _pattern("gitlab-token", r"\b(glpat-[A-Za-z0-9_-]{20,64})"),
    _pattern("slack-token", r"\b(xox[abeoprs]-[A-Za-z0-9-]{10,250})"),
    _pattern("slack-webhook", r"(https://hooks\.slack\.com/services/[A-Za-z0-9/]{20,80})"),
    _pattern("stripe-key", r"\b((?:sk|rk|whsec)_(?:live_|test_)?[A-Za-z0-9]{16,255})\b"),
    _pattern("google-api-key", r"\b(AIza[A-Za-z0-9_-]{35})"),
    _pattern("model-api-key", r"\b(sk-(?:ant-|proj-|svcacct-|or-)?[A-Za-z0-9_-]{16,250})"),
    _pattern("npm-token", r"\b(npm_[A-Za-z0-9]{36})\b"),
    _pattern("pypi-token", r"\b(pypi-[A-Za-z0-9_-]{50,255})"),
    _pattern("jwt", r"\b(eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,})"),
    _pattern("dsn-password", r"://[^\s:/@'\"]{0,100}:([^\s/@'\"]{6,128})@"),
    _pattern(
        "bearer-token",
        r"(?i)\bauthorization['\"]?\s*[:=]\s*['\"]?(?:bearer|basic)\s+([^\s'\"]{12,})",
    ),
)  # fmt: skip
_PEM = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(.{20,8000}?)-----END [A-Z ]{0,40}PRIVATE KEY-----",
    re.DOTALL,
)
_ASSIGNMENT = re.compile(
    r"(api_?key|key|token|secret|password|passwd|pwd|passphrase)['\"]?"
    r"\s{0,4}(?::=|=|:)\s{0,4}(['\"]?)([^\s'\"`,;]{8,256})",
    re.IGNORECASE,
)
_NAME_BEFORE = re.compile(r"[A-Za-z0-9_.-]{0,80}$")
_PLACEHOLDER = re.compile(
    r"(?i)^(?:x+|\*+|\.+|<.*>|\$.*|%.*%|\{.*\}|.*(?:changeme|change_me|placeholder|redacted|example"
    r"|your[-_]).*|none|null|true|false|undefined)$"
)
_CODE = re.compile(r"[(){}\[\]<>$]")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{11,}")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}[\s:]?){8,}")


def find_secrets(text: str) -> tuple[Found, ...]:
    """Return every secret in a text, each value once."""
    found: dict[str, Found] = {}
    for item in (*_by_pattern(text), *_private_keys(text), *_assignments(text)):
        if _MIN_LENGTH <= len(item.value) <= _MAX_LENGTH:
            found.setdefault(item.value, item)
    return tuple(found.values())


def _by_pattern(text: str) -> Iterator[Found]:
    for pattern in _PATTERNS:
        for match in pattern.expression.finditer(text):
            if not _PLACEHOLDER.match(match[1]):
                yield Found(pattern.kind, match[1])


def _private_keys(text: str) -> Iterator[Found]:
    """Each long line of a PEM private key counts, so that a part of it is found too."""
    for match in _PEM.finditer(text):
        for line in re.split(r"\\n|\s", match[1]):
            if len(line) >= 20:
                yield Found("private-key", line)


def _assignments(text: str) -> Iterator[Found]:
    for match in _ASSIGNMENT.finditer(text):
        before = _NAME_BEFORE.search(text[max(0, match.start() - 80) : match.start()])
        prefix = before[0] if before else ""
        if not _ends_name(prefix, match[1]):
            continue
        if _is_value(prefix + match[1], match[3], quoted=bool(match[2])):
            yield Found("assigned-secret", match[3])


def _ends_name(prefix: str, word: str) -> bool:
    """Whether a word ends a name (`API_KEY`, `dbPassword`), and not a longer word (`monkey`)."""
    if not prefix or not prefix[-1].isalnum():
        return word.lower() != "key" or prefix[-1:] in ("_", "-")
    return prefix[-1].islower() and word[0].isupper()


def _is_value(name: str, value: str, *, quoted: bool) -> bool:
    """Whether an assigned value looks like a secret, and not like code or a placeholder."""
    if _PLACEHOLDER.match(value) or len(set(value)) < 4:
        return False
    if not quoted and _CODE.search(value):
        return False
    in_a_dotenv_file = name == name.upper() and not value.isalpha()
    mixed = any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
    return in_a_dotenv_file or mixed or (quoted and "pass" in name.lower())


def masked(text: str, seen: Iterable[KnownSecret], keyed: KeyedHash) -> str:
    """Return a text without secrets: those it shows by itself, and those that were seen before."""
    for item in sorted(find_secrets(text), key=lambda found: -len(found.value)):
        text = text.replace(item.value, f"<{item.kind}>")
    plain = text.encode("utf-8", "surrogatepass")
    for secret in sorted(seen, key=lambda known: -known.length):
        for window in dict.fromkeys(_windows_of(plain, (secret.length,))):
            if keyed.digest(window) == secret.digest:
                plain = plain.replace(window, f"<{secret.kind}>".encode())
    return plain.decode("utf-8", "surrogatepass")


def known(found: Found, source: str, keyed: KeyedHash) -> KnownSecret:
    """Return what may be kept of a secret."""
    digest = keyed.digest(found.value.encode())
    return KnownSecret(found.kind, len(found.value.encode()), digest, source)


def find_known(text: str, seen: Iterable[KnownSecret], keyed: KeyedHash) -> KnownSecret | None:
    """Return the first seen secret that a text contains, plainly or encoded.

    Raises:
        TextTooLongError: if the text cannot be looked through in reasonable time.
    """
    by_length: dict[int, dict[bytes, KnownSecret]] = {}
    for secret in seen:
        by_length.setdefault(secret.length, {})[secret.digest] = secret
    if not by_length:
        return None
    left = _MAX_WINDOWS
    checked: set[bytes] = set()
    for window in _windows(text.encode("utf-8", "surrogatepass"), tuple(by_length)):
        if window in checked:
            continue
        checked.add(window)
        left -= 1
        if left < 0:
            raise TextTooLongError("the text is too long to be checked for secrets")
        hit = by_length[len(window)].get(keyed.digest(window))
        if hit:
            return hit
    return None


def _windows(text: bytes, lengths: tuple[int, ...]) -> Iterator[bytes]:
    for view in dict.fromkeys(_views(text, min(lengths), _MAX_DECODINGS)):
        yield from _windows_of(view, lengths)


def _windows_of(view: bytes, lengths: tuple[int, ...]) -> Iterator[bytes]:
    for run in view.split():
        for length in lengths:
            for start in range(len(run) - length + 1):
                yield run[start : start + length]


def _views(text: bytes, shortest: int, decodings: int) -> Iterator[bytes]:
    for view in (text, text[::-1]):
        yield view
        if decodings:
            # Decoded pieces are looked at as one text: no secret has a space in it.
            joined = b" ".join(dict.fromkeys(_decoded(view, shortest)))
            if joined:
                yield from _views(joined, shortest, decodings - 1)


def _decoded(text: bytes, shortest: int) -> Iterator[bytes]:
    readable = text.decode("latin-1")
    if "%" in readable:
        yield unquote_to_bytes(text)
    for match in _HEX.finditer(readable):
        digits = re.sub(r"[\s:]", "", match[0])
        yield bytes.fromhex(digits[: len(digits) // 2 * 2])
        yield bytes.fromhex(digits[1:][: (len(digits) - 1) // 2 * 2])
    for match in _BASE64.finditer(readable):
        if len(match[0]) * 3 // 4 >= shortest:
            yield from _from_base64(match[0])


def _from_base64(run: str) -> Iterator[bytes]:
    """Decode at all four alignments: the secret may begin anywhere in the encoded text."""
    standard = run.replace("-", "+").replace("_", "/")
    for offset in range(4):
        part = standard[offset:]
        part = part[: len(part) // 4 * 4] if len(part) % 4 == 1 else part + "=" * (-len(part) % 4)
        yield base64.b64decode(part)
