"""The wire form of a trap table: canonical bytes, what is signed, and when a table may be used.

docs/spec/trap-abi.md is the contract of this module. Canonical JSON here is RFC 8785 for values
without fractions; a value outside that subset is refused rather than written in a way of our own.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fmos.errors import FormatError

#: The version of the table's shape and meaning. A reader that knows another one traps everything.
ABI = 1

_PREFIX = b"fmos/trap-table/1\n"
_LARGEST_EXACT = 2**53 - 1
_SECOND_NS = 1_000_000_000
_LARGEST_SECONDS = 2**62
_HINT = "fetch a new table; docs/spec/trap-abi.md says what one must be"


class TableError(FormatError):
    """A trap table that must not be used: everything traps."""


def canonical(value: object) -> bytes:
    """Return the RFC 8785 form of a value that has no fractions, in UTF-8.

    Raises:
        TableError: if the value is outside the subset: a fraction, an integer that a double does
            not hold exactly, a key that is no string, or text that is not Unicode.
    """
    try:
        text = json.dumps(_ordered(value), ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TableError("a trap table holds text that is not Unicode", hint=_HINT) from error


def canonical_digest(value: object) -> str:
    """Return the SHA-256 of a value's canonical form in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def signed_bytes(document: Mapping[str, Any]) -> bytes:
    """Return what the signature of a table's JSON document covers: every field but itself."""
    body = {name: value for name, value in document.items() if name != "signature"}
    return _PREFIX + canonical(body)


def key_id(public_key: str) -> str:
    """Return the name of a base64 public key: 16 hex digits of the SHA-256 of its 32 bytes."""
    return hashlib.sha256(b64decode(public_key)).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a reader holds a fetched table against. Times are nanoseconds since the Unix epoch."""

    public_key: str | None
    tenant: str
    agent: str
    now_ns: int
    least_serial: int = 0


def check(document: Mapping[str, Any], expected: Expected) -> None:
    """Return if the table may be used now.

    Raises:
        TableError: with the sentence that says why not and what to do.
    """
    if not expected.public_key:
        raise _refused("there is no public key to check it with", "pin one: FMOS_PUBLIC_KEY")
    if type(document.get("abi")) is not int or document["abi"] != ABI:
        raise _refused(
            f"its abi is {document.get('abi')!r} and this reader knows {ABI}", "update FMOS"
        )
    _check_signature(document, expected.public_key)
    for name in ("tenant", "agent"):
        wanted = getattr(expected, name)
        if document.get(name) != wanted:
            raise _refused(f"it is of the {name} {document.get(name)!r}, not {wanted!r}", _HINT)
    _check_time(document, expected)


def _check_signature(document: Mapping[str, Any], public_key: str) -> None:
    from fmos.audit.keys import verify_signature  # noqa: PLC0415 - loads the signature library

    if not verify_signature(public_key, signed_bytes(document), str(document.get("signature"))):
        raise _refused(
            f"the key that is pinned did not sign it (it names key {document.get('key_id')!r})",
            "pin the tenant's key from keys/TENANT/audit.pub, or ask who else serves this address",
        )


def _check_time(document: Mapping[str, Any], expected: Expected) -> None:
    issued, expires, serial = (_number(document, n) for n in ("issued_ns", "expires_ns", "serial"))
    if serial < expected.least_serial:
        raise _refused(
            f"it is an old one sent again (serial {serial} after {expected.least_serial})",
            "ask who answers for the server; a server restored from a backup needs a new session",
        )
    if issued > expected.now_ns:
        raise _refused(
            f"it was issued {_seconds(issued - expected.now_ns)} in the future",
            "set the clocks of client and server",
        )
    if expected.now_ns >= expires:
        raise _refused(
            f"it expired {_seconds(expected.now_ns - expires)} ago",
            "set the clocks of client and server, or raise the table's lifetime",
        )


def _number(document: Mapping[str, Any], name: str) -> int:
    value = document.get(name)
    if type(value) is not int:
        raise _refused(f"its {name} is {value!r:.40}", _HINT)
    return value


def _refused(why: str, hint: str) -> TableError:
    return TableError(f"the trap table is not used, so every operation traps: {why}", hint=hint)


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds / _SECOND_NS:.1f} s"


def _ordered(value: object) -> object:
    """Return the value with the keys of every object in RFC 8785's order: by UTF-16 units."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return _exact(value)
    if isinstance(value, list | tuple):
        return [_ordered(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: _ordered(value[name]) for name in sorted(value, key=_utf16)}
    raise TableError(
        f"a trap table cannot hold a {type(value).__name__}: {value!r:.80}", hint=_HINT
    )


def _exact(value: int) -> int:
    """Return an integer that every JSON reader holds exactly, times in whole seconds among them."""
    if abs(value) <= _LARGEST_EXACT:
        return value
    if value % _SECOND_NS == 0 and abs(value) < _LARGEST_SECONDS:
        return value
    raise TableError(f"a trap table cannot hold the number {value}: a double rounds it", hint=_HINT)


def _utf16(name: str) -> bytes:
    return name.encode("utf-16-be")
