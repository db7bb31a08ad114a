"""URLs and hosts as a browser reads them, so that no spelling of a host passes for another one."""

from __future__ import annotations

import functools
import ipaddress
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote, unquote_to_bytes

from fmos_trust.operators.model import text_of, unreadable
from fmos_trust.operators.paths import path_of

_MOST = 16_384
_LONGEST_HOST = 253
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443", "ftp": "21"}
_SPECIAL = frozenset(_PORTS)
_REMOVED = str.maketrans("", "", "\t\r\n")
_EDGES = "".join(map(chr, range(33)))
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)").fullmatch
_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]*|[0-9]+").fullmatch
_HOST_LIKE = re.compile(r"[^\s/@:?#]+(?:\.[^\s/@:?#]+|:\d+)|localhost|\[").match
_KEPT = "!$&'()*+,;=:@~-._/"


@dataclass(frozen=True, slots=True)
class UrlValue:
    """A URL in one spelling. `userinfo`: it has a name or password before its host."""

    text: str
    scheme: str
    host: str
    port: int | None
    path: str
    query: str
    userinfo: bool


@dataclass(frozen=True, slots=True)
class HostValue:
    """A host name in lower-case ASCII, or an address in its usual form."""

    text: str
    is_address: bool


def url_of(value: str) -> UrlValue:
    """Return the URL that a text is; without a scheme it must begin with a host.

    The user's name and password are left out of `text`, and so is a fragment.

    Raises:
        OperatorError: if it is none, or its host cannot be read in one way only.
    """
    return _read(text_of("a URL", value, _MOST))


@functools.lru_cache(maxsize=1024)
def _read(value: str) -> UrlValue:
    text = value.strip(_EDGES).translate(_REMOVED)
    match = _SCHEME.match(text)
    if match and (match[1].lower() in _SPECIAL or not _HOST_LIKE(text)):
        scheme, rest = match[1].lower(), text[match.end() :]
    else:
        scheme, rest = "", text
    if scheme == "file":
        path = path_of(value)
        shown = quote(path.text, safe=_KEPT)
        return UrlValue(f"file://{shown}", "file", "", None, shown, "", False)
    if scheme and scheme not in _SPECIAL and not rest.startswith(("//", "\\\\")):
        return _opaque(scheme, rest)
    rest = rest.replace("\\", "/") if scheme in (*_SPECIAL, "") else rest
    if not scheme and not rest.startswith("//") and not _HOST_LIKE(rest):
        raise unreadable("a URL", value, "it has neither a scheme nor a host")
    return _with_host(scheme, rest.lstrip("/"), value)


def host_of(value: str) -> HostValue:
    """Return the host that a text names: a domain, an IPv4 address in any form, an IPv6 address.

    Raises:
        OperatorError: if it names none.
    """
    text = text_of("a host", value, _LONGEST_HOST * 16).strip(_EDGES)
    if text.startswith("["):
        return _version_6(text, value)
    if "%" in text:
        text = unquote(text, errors="replace")
    name = _ascii(text, value).removesuffix(".")
    labels = name.split(".")
    if _NUMBER(labels[-1]):
        return HostValue(_version_4(labels, value), True)
    if len(name) > _LONGEST_HOST or not all(_LABEL(label) for label in labels):
        raise unreadable("a host", value, "a label is empty, too long or has other characters")
    return HostValue(name, False)


def host_matches(host: str, patterns: Iterable[str]) -> bool:
    """Return whether a host is one of the patterns; `*.` before one is one label or more.

    Labels are compared whole: `notexample.com` does not match `example.com`.

    Raises:
        OperatorError: if the host, or a pattern, is none.
    """
    found = host_of(host)
    return any(_matches(found, pattern) for pattern in patterns)


def _matches(host: HostValue, pattern: str) -> bool:
    if pattern == "*":
        return True
    if pattern.startswith("*."):
        return not host.is_address and host.text.endswith(f".{host_of(pattern[2:]).text}")
    return host.text == host_of(pattern).text


def _opaque(scheme: str, rest: str) -> UrlValue:
    """Return a URL without a host: `mailto:`, `data:`, `javascript:`, `file:/x`."""
    body = rest.split("#", 1)[0]
    path, mark, query = body.partition("?")
    shown = quote(path, safe=_KEPT + "%"), quote(query, safe=_KEPT + "%?")
    text = f"{scheme}:{shown[0]}{mark}{shown[1]}"
    return UrlValue(text, scheme, "", None, shown[0], shown[1], False)


def _with_host(scheme: str, rest: str, value: str) -> UrlValue:
    body = rest.split("#", 1)[0]
    body, mark, query = body.partition("?")
    authority, slash, path = body.partition("/")
    _, at, place = authority.rpartition("@")
    host, port = _host_and_port(place, scheme, value)
    path = _plain_path(path if slash else "")
    query = _escaped(query)
    shown = f"{host}{f':{port}' if port is not None else ''}{path}{mark}{query}"
    text = f"{scheme}://{shown}" if scheme else f"//{shown}"
    return UrlValue(text, scheme, host, port, path, query, bool(at))


def _host_and_port(place: str, scheme: str, value: str) -> tuple[str, int | None]:
    name, colon, port = place.rpartition(":")
    if not colon or place.endswith("]"):
        name, port = place, ""
    if port and not (port.isascii() and port.isdigit() and len(port) < 8 and int(port) < 65_536):
        raise unreadable("a URL", value, f"its port is {port[:20]!r}")
    if not name:
        raise unreadable("a URL", value, "it has no host")
    found = host_of(name)
    host = f"[{found.text}]" if ":" in found.text else found.text
    default = _PORTS.get(scheme)
    return host, int(port) if port and str(int(port)) != default else None


def _plain_path(path: str) -> str:
    """Return a path without dot segments, its percent signs in one spelling."""
    kept: list[str] = []
    parts = _escaped(path).split("/")
    for part in parts:
        if part == "..":
            del kept[-1:]
        elif part != ".":
            kept.append(part)
    if parts[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def _escaped(text: str) -> str:
    """Return the text with what needs no percent sign plain, and the rest in upper case."""
    pieces = re.split(r"((?:%[0-9A-Fa-f]{2})+)", text)
    return "".join(
        quote(unquote_to_bytes(piece), safe="~-._") if at % 2 else quote(piece, safe=_KEPT + "?")
        for at, piece in enumerate(pieces)
    )


def _ascii(text: str, value: str) -> str:
    """Return a name in lower-case ASCII: IDNA with the mapping that browsers use (UTS 46)."""
    if text.isascii() and "xn--" not in text.lower():
        return text.lower()
    if len(text) > _LONGEST_HOST:
        raise unreadable("a host", value, "it is too long")
    import idna  # noqa: PLC0415 - its tables are only needed for names beyond ASCII

    plain = unicodedata.normalize("NFKC", text).lower()
    if plain.isascii() and "xn--" not in plain:
        return plain
    try:
        encoded = idna.encode(plain, uts46=True, std3_rules=False).decode("ascii").lower()
        idna.decode(encoded)
    except (idna.IDNAError, UnicodeError, ValueError) as error:
        raise unreadable("a host", value, "it is not an international domain name") from error
    return encoded


def _version_4(labels: list[str], value: str) -> str:
    """Return an IPv4 address of one to four numbers, each decimal, octal or hexadecimal."""
    try:
        numbers = [_number(label) for label in labels]
        *first, last = numbers
        if len(numbers) > 4 or any(each > 255 for each in first):
            raise ValueError
        total = sum(each << (24 - 8 * at) for at, each in enumerate(first))
        if last >= 1 << (8 * (4 - len(first))):
            raise ValueError
        return str(ipaddress.IPv4Address(total + last))
    except ValueError:
        raise unreadable("a host", value, "it ends in a number and is no IPv4 address") from None


def _number(label: str) -> int:
    if not _NUMBER(label) or len(label) > 20:
        raise ValueError
    if label[:2].lower() == "0x":
        return int(label[2:] or "0", 16)
    return int(label, 8) if len(label) > 1 and label.startswith("0") else int(label)


def _version_6(text: str, value: str) -> HostValue:
    try:
        if not text.endswith("]") or "%" in text:
            raise ValueError
        address = ipaddress.IPv6Address(text[1:-1])
    except ValueError:
        raise unreadable("a host", value, "it is no IPv6 address") from None
    mapped = address.ipv4_mapped
    return HostValue(str(mapped) if mapped else str(address), True)
