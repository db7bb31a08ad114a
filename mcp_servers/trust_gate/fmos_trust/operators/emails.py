"""Addresses of e-mail: the one recipient, or the several, that a text stands for.

Only plain addresses are read: what mail programs disagree about (comments, routes, address
literals, groups) is refused rather than guessed.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from fmos_trust.operators.model import OperatorError, text_of, unreadable
from fmos_trust.operators.urls import host_of

_MOST = 320
_MOST_TEXT = 65_536
_MOST_RECIPIENTS = 1_000
_WORD = r"[^\s\x00-\x20()<>\[\]:;@\\,.\"\x7f]+"
_ATOM = re.compile(rf"{_WORD}(?:\.{_WORD})*")
_QUOTED = re.compile(r'"((?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*)"')
_NAMED = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^"<>@()\[\]\\:;,]*)\s*<([^<>]*)>', re.DOTALL)
_PLAIN_LOCAL = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*")


@dataclass(frozen=True, slots=True)
class EmailValue:
    """One address in lower case. `mailbox` is it without a tag (`ada+news@x` is `ada@x`)."""

    text: str
    local: str
    domain: str
    mailbox: str


def email_of(value: str) -> EmailValue:
    """Return the one address that a text is, with or without a display name.

    Raises:
        OperatorError: if it is none, or more than one.
    """
    text = text_of("an address", value, _MOST)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    text = text.strip().removeprefix("mailto:")
    named = _NAMED.fullmatch(text)
    address = named[1].strip() if named else text
    local, end = _local(address, value)
    if address[end : end + 1] != "@":
        raise unreadable("an address", value, "it is not one plain address")
    try:
        host = host_of(address[end + 1 :])
    except OperatorError:
        raise unreadable("an address", value, "what follows the @ is no domain") from None
    if host.is_address or "%" in address[end + 1 :]:
        raise unreadable("an address", value, "it names a machine and not a domain")
    mailbox = local.split("+", 1)[0] or local
    return EmailValue(_spelled(local, host.text), local, host.text, _spelled(mailbox, host.text))


def emails_of(value: str) -> tuple[EmailValue, ...]:
    """Return every address of a text that lists them with commas, semicolons or line breaks.

    Raises:
        OperatorError: if one is none, or there is none at all.
    """
    text = text_of("a list of addresses", value, _MOST_TEXT)
    pieces = [piece for piece in _pieces(text) if piece.strip()]
    if not pieces or len(pieces) > _MOST_RECIPIENTS:
        raise unreadable("a list of addresses", value, f"it has {len(pieces)} of them")
    return tuple(email_of(piece) for piece in pieces)


def _pieces(text: str) -> list[str]:
    """Split at separators that are not inside quotes or angle brackets."""
    pieces, start, quote = [], 0, ""
    at = 0
    while at < len(text):
        char = text[at]
        if quote == '"' and char == "\\":
            at += 1
        elif quote:
            quote = "" if char == quote else quote
        elif char in '"<':
            quote = '"' if char == '"' else ">"
        elif char in ",;\n":
            pieces.append(text[start:at])
            start = at + 1
        at += 1
    return [*pieces, text[start:]]


def _local(address: str, value: str) -> tuple[str, int]:
    quoted = _QUOTED.match(address)
    if quoted:
        local = re.sub(r"\\(.)", r"\1", quoted[1]).lower()
        if not local:
            raise unreadable("an address", value, "there is nothing before the @")
        return local, quoted.end()
    atom = _ATOM.match(address)
    if atom is None:
        raise unreadable("an address", value, "it is not one plain address")
    return atom[0].lower(), atom.end()


def _spelled(local: str, domain: str) -> str:
    if _PLAIN_LOCAL.fullmatch(local) or _ATOM.fullmatch(local):
        return f"{local}@{domain}"
    escaped = local.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"@{domain}'
