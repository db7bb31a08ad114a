"""What a pattern cannot say of a found value: check digits, plausible ranges, and looking random.

A rule names its check; the check gets the value, and the text with the place of the match in it.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache

#: (text of one byte a character, where the match begins, its groups) -> whether it counts; a
#: number says that only so many characters of the value do.
Check = Callable[[bytes, int, tuple[bytes, ...]], int]

#: Bits a character below which an assigned value is a word rather than a secret.
_ASSIGNED_BITS = 3.0
#: The same for short values, as a share of what their length allows.
_ASSIGNED_SHARE = 0.75
#: Letters or digits in a row, on average, from which a value reads like words and numbers.
_WORDS = 3.0
_LONGEST_ASSIGNED = 512
_IN_NAMES = bytes(each for each in range(128) if chr(each).isalnum() or chr(each) in "_.-")
_LONGEST_NAME = 80
_CODE = re.compile(rb"[(){}\[\]<>$]")
_PUBLIC = re.compile(rb"(?i)pub(?:lic)?[_-]\Z")
_RUN = re.compile(rb"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_IBAN_LENGTHS = range(15, 35)


def entropy(value: bytes) -> float:
    """Return the bits of a character, by how often each one of the value comes."""
    size = len(value)
    return -sum(n / size * math.log2(n / size) for n in Counter(value).values())


def reads_like_words(value: bytes) -> bool:
    """Return whether a value is made of words and numbers (`Mixed123value`), not of random ones."""
    runs = _RUN.findall(value)
    return bool(runs) and sum(map(len, runs)) / len(runs) >= _WORDS


def _digits(text: bytes, start: int, groups: tuple[bytes, ...]) -> bool:
    """A token has digits in it; a name in code mostly has not."""
    return any(48 <= byte <= 57 for byte in groups[0])


def _value(text: bytes, start: int, groups: tuple[bytes, ...]) -> bool:
    return not _CODE.search(groups[0]) and len(set(groups[0])) >= 4


def _assigned(text: bytes, start: int, groups: tuple[bytes, ...]) -> int:
    """Whether a name ends in a word for secrets, and its value looks like one."""
    word, _, quote, value = groups
    before = text[max(0, start - _LONGEST_NAME) : start]
    prefix = before[len(before.rstrip(_IN_NAMES)) :]
    # Unquoted, it ends where the next field of a query begins.
    value = value.rstrip(b"\\") if quote else value.partition(b"&")[0].rstrip(b"\\.")
    if not 8 <= len(value) <= _LONGEST_ASSIGNED or not _ends_name(prefix, word):
        return 0
    return len(value) if _is_secret(prefix + word, value, quoted=bool(quote)) else 0


def _ends_name(prefix: bytes, word: bytes) -> bool:
    """Whether a word ends a name (`API_KEY`, `dbPassword`), and not a longer word (`monkey`)."""
    if not prefix or not prefix[-1:].isalnum():
        is_key = word.lower() == b"key"
        return not is_key or (prefix[-1:] in (b"_", b"-") and not _PUBLIC.search(prefix))
    return prefix[-1:].islower() and word[:1].isupper()


@lru_cache(maxsize=4096)
def _is_secret(name: bytes, value: bytes, *, quoted: bool) -> bool:
    if len(set(value)) < 4 or (not quoted and _CODE.search(value)):
        return False
    a_password = b"pass" in name.lower()
    in_a_dotenv_file = name == name.upper() and not value.isalpha()
    if a_password and (quoted or in_a_dotenv_file):
        return not (value.isalpha() and value.islower())
    enough = min(_ASSIGNED_BITS, _ASSIGNED_SHARE * math.log2(len(value)))
    return _mixed(value) and entropy(value) >= enough and not reads_like_words(value)


def _mixed(value: bytes) -> bool:
    text = value.decode("ascii", "replace")
    return any(map(str.isdigit, text)) and any(map(str.isalpha, text))


def _plain(value: bytes) -> bytes:
    return re.sub(rb"[^A-Za-z0-9]", b"", value)


def _card(text: bytes, start: int, groups: tuple[bytes, ...]) -> bool:
    """Luhn's check digit, and a length that issuers use."""
    digits = [byte - 48 for byte in _plain(groups[0])]
    if not 13 <= len(digits) <= 19 or len(set(digits)) < 2:
        return False
    doubled = [digit * 2 - 9 if digit > 4 else digit * 2 for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _iban(text: bytes, start: int, groups: tuple[bytes, ...]) -> bool:
    """The remainder by 97 is 1, with letters as two digits."""
    value = _plain(groups[0]).decode()
    if len(value) not in _IBAN_LENGTHS:
        return False
    return int("".join(str(int(each, 36)) for each in value[4:] + value[:4])) % 97 == 1


def _ssn(text: bytes, start: int, groups: tuple[bytes, ...]) -> bool:
    area, group, serial = groups[0].split(b"-")
    never = area in (b"000", b"666") or area >= b"900" or group == b"00" or serial == b"0000"
    return not never


def _nino(text: bytes, start: int, groups: tuple[bytes, ...]) -> bool:
    return groups[0][:2] not in (b"BG", b"GB", b"KN", b"NK", b"NT", b"TN", b"ZZ")


def _phone(text: bytes, start: int, groups: tuple[bytes, ...]) -> bool:
    digits = _plain(groups[0])
    return 8 <= len(digits) <= 15 and len(set(digits)) >= 3


def _ip(text: bytes, start: int, groups: tuple[bytes, ...]) -> bool:
    """An address that somebody on the internet may have."""
    if text[start - 1 : start] == b"." or text[start + len(groups[0]) :][:1] == b".":
        return False
    try:
        return ipaddress.ip_address(groups[0].decode()).is_global
    except ValueError:
        return False


CHECKS: dict[str, Check] = {
    "digits": _digits,
    "value": _value,
    "assigned": _assigned,
    "card": _card,
    "iban": _iban,
    "ssn": _ssn,
    "nino": _nino,
    "phone": _phone,
    "ip": _ip,
}
