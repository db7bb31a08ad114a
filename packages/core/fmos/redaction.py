"""Finds secrets in a text by what they look like, and takes them out of what people read.

The trust gate watches for what `find_secrets` finds; what is shown or exported is `redacted`, which
also hides values that merely look random.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_MIN_LENGTH = 8
_MAX_LENGTH = 512
#: Bits a character from which a run of letters and digits looks random, as detect-secrets has it.
_RANDOM_BITS = 4.5


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
_RANDOM = re.compile(r"[A-Za-z0-9+/_=-]{24,512}")
_CODE = re.compile(r"[(){}\[\]<>$]")


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


class Redactor:
    """Takes secrets out of the texts of one session; a value found in one is hidden in all."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def learn(self, value: Any) -> None:
        """Look for secrets in every text of a JSON value, so that `redacted` hides them."""
        for text in _texts(value):
            for item in find_secrets(text):
                self._known.setdefault(item.value, item.kind)

    def redacted(self, value: Any) -> Any:
        """Return a JSON value with every secret in its texts replaced by `<kind>`."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            return {self._text(str(key)): self.redacted(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.redacted(each) for each in value]
        return value

    def _text(self, text: str) -> str:
        self.learn(text)
        for value in sorted(self._known, key=len, reverse=True):
            if value in text:
                text = text.replace(value, f"<{self._known[value]}>")
        return _RANDOM.sub(_hidden_if_random, text)


def redacted(text: str) -> str:
    """Return a text with every secret that it shows by itself replaced by `<kind>`."""
    return str(Redactor().redacted(text))


def _hidden_if_random(match: re.Match[str]) -> str:
    return "<high-entropy>" if _looks_random(match[0]) else match[0]


def _looks_random(run: str) -> bool:
    """Whether a run has capitals, small letters and digits, and as many kinds as random text."""
    mixed = (str.isupper, str.islower, str.isdigit)
    if run.count("/") > 2 or not all(any(map(kind, run)) for kind in mixed):
        return False
    counts = Counter(run).values()
    bits = -sum(count / len(run) * math.log2(count / len(run)) for count in counts)
    return bits >= min(_RANDOM_BITS, 0.9 * math.log2(len(run)))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield str(key)
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
