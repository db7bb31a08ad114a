r"""Paths: every file that a tool may take a text for, and one canonical spelling.

A tool may undo percent signs, normalise Unicode, take `\` for `/`, strip white space, expand `~`
or follow /proc; which of these it does is not known. So a path has *readings*, one for each, and
it is inside a scope only when all of them are.
"""

from __future__ import annotations

import functools
import os
import posixpath
import pwd
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote

from fmos.contract.globs import covers_each, normalise
from fmos_trust.operators.model import text_of, unreadable

_MOST = 16_384
_READINGS = 64
_LINKS = 40
_ROUNDS = 8
_SIMPLE = re.compile(r"/[A-Za-z0-9_@+,=/.-]*").fullmatch
_FILE_URL = re.compile(r"\s*file:", re.IGNORECASE).match
_PROCESS = re.compile(
    r"/proc/(?:self|thread-self|[0-9]+)(?:/task/[0-9]+)?/(root|cwd|fd|map_files)(?:/(.*))?",
    re.DOTALL,
).fullmatch
_DESCRIPTOR = re.compile(r"/dev/fd/[^/]+(/.*)?", re.DOTALL).fullmatch
_PERCENT = re.compile(r"%[0-9A-Fa-f]{2}").search


class Found(Protocol):
    """What is at a path."""

    @property
    def kind(self) -> str:
        """Such as `file`, `directory` or `symlink`."""
        ...


class Links(Protocol):
    """Where symbolic links are looked up: an AgentFS handle is one."""

    def lstat(self, path: str, /) -> Found:
        """Return what is at a path, a link not followed; an OSError if nothing is."""
        ...

    def readlink(self, path: str, /) -> str:
        """Return the target of the link at a path."""
        ...


@dataclass(frozen=True, slots=True)
class PathValue:
    """A path: `text` has every encoding undone, `readings` all that a tool may take it for."""

    text: str
    readings: tuple[str, ...]


def path_of(value: str, root: str = "/") -> PathValue:
    """Return the path that a text names; a relative one lies under `root`.

    Raises:
        OperatorError: if it is no text, too long, encoded too often, or names what no text can
            tell (`/proc/self/cwd`, another process's descriptors, another host's files).
    """
    return _read(text_of("a path", value, _MOST), root)


@functools.lru_cache(maxsize=4096)
def _read(value: str, root: str) -> PathValue:
    text = value
    if _SIMPLE(text) and "/." not in text and "//" not in text and not text.startswith("/proc"):
        plain = text.rstrip("/") or "/"
        if not plain.startswith("/dev/fd"):
            return PathValue(plain, (plain,))
    if not text:
        return PathValue(normalise(root), (normalise(root),))
    found: dict[str, None] = {}
    for _ in range(_ROUNDS):
        for each in _spellings(text):
            found.update(dict.fromkeys(_places(each, root, value)))
        last = _last(text, root, value)
        if last == text:
            return PathValue(last, tuple(found))
        text = last
    raise unreadable("a path", value, "it is encoded too often")


def path_under(value: str | PathValue, folders: Iterable[str], root: str = "/") -> bool:
    """Return whether every reading of a path is one of the folders or lies below one.

    Raises:
        OperatorError: if the path cannot be judged.
    """
    path = value if isinstance(value, PathValue) else path_of(value, root)
    plain = [normalise(folder).rstrip("/") for folder in folders]
    return all(
        any(reading == folder or reading.startswith(f"{folder}/") for folder in plain)
        for reading in path.readings
    )


def in_scopes(path: PathValue, scopes: Iterable[Iterable[str]]) -> bool:
    """Return whether every reading is covered by each of the lists of globs."""
    return all(covers_each(scopes, reading) for reading in path.readings)


def followed(path: PathValue, files: Links) -> PathValue:
    """Return the path with the place that symbolic links lead to among its readings.

    Raises:
        OperatorError: if the links lead in a circle.
    """
    real = _real(path.text, files)
    if real == path.text:
        return path
    return PathValue(real, tuple(dict.fromkeys((*path.readings, real))))


def _spellings(text: str) -> list[str]:
    """Return what a text becomes under each decoding, alone and together; the last is final."""
    start = _after_scheme(text, text) if _FILE_URL(text) else text
    found = {start: None}
    waiting = [start]
    while waiting:
        each = waiting.pop()
        for decode in _DECODINGS:
            other = _after_scheme(each, text) if decode is None else decode(each)
            if other not in found:
                found[other] = None
                waiting.append(other)
        if len(found) > _READINGS:
            raise unreadable("a path", text, "it is encoded in too many ways")
    final = next(each for each in reversed(found) if _is_final(each, text))
    found.pop(final)
    return [*found, final]


def _last(text: str, root: str, whole: str) -> str:
    """Return where the spelling with every encoding undone leads."""
    *_, last = _places(_spellings(text)[-1], root, whole)
    return last


def _is_final(text: str, whole: str) -> bool:
    plain = not _FILE_URL(text) or _after_scheme(text, whole) == text
    return plain and all(decode is None or decode(text) == text for decode in _DECODINGS)


def _after_scheme(text: str, whole: str) -> str:
    """Return the path of a `file:` URL; another text as it is."""
    match = _FILE_URL(text)
    if match is None:
        return text
    rest = text[match.end() :].replace("\\", "/")
    if "?" in rest or "#" in rest:
        raise unreadable("a path", whole, "a file: URL has no query")
    if not rest.startswith("//"):
        return f"/{rest.lstrip('/')}"
    host, _, path = rest[2:].lstrip("/").partition("/") if rest[2:3] != "/" else ("", "", rest[2:])
    if host.casefold() not in ("", "localhost", "127.0.0.1"):
        raise unreadable("a path", whole, "it lies on another host")
    return f"/{path.lstrip('/')}"


def _percent(text: str) -> str:
    return unquote(text, errors="replace") if _PERCENT(text) else text


def _compatible(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


def _slashes(text: str) -> str:
    return text.replace("\\", "/")


_DECODINGS: tuple[Callable[[str], str] | None, ...] = (
    str.strip,
    _percent,
    _compatible,
    _slashes,
    None,  # the path of a file: URL
)


def _places(text: str, root: str, whole: str) -> Iterator[str]:
    """Yield the absolute paths of one spelling: as it stands, and where `~` and /proc lead."""
    if "\0" in text:
        raise unreadable("a path", whole, "it holds a NUL character")
    path = normalise(text if text.startswith("/") else f"{root}/{text}")
    yield path
    if text.startswith("~"):
        user, _, rest = text[1:].partition("/")
        path = normalise(f"{_home_of(user)}/{rest}")
        yield path
    resolved = _settled(path, whole)
    if resolved != path:
        yield resolved


def _settled(path: str, whole: str) -> str:
    """Return where a path below /proc leads, as long as it leads anywhere by its text."""
    while True:
        if _DESCRIPTOR(path) and (path.count("/") > 3 or not path[8:].isdigit()):
            raise unreadable("a path", whole, "it goes through an open file")
        match = _PROCESS(path)
        if match is None:
            return path
        if match[1] != "root":
            raise unreadable("a path", whole, f"where /proc/../{match[1]} leads cannot be told")
        path = normalise(match[2] or "/")


@functools.lru_cache(maxsize=256)
def _home_of(user: str) -> str:
    try:
        found = pwd.getpwnam(user) if user else pwd.getpwuid(os.getuid())
    except (KeyError, ValueError):
        return f"/home/{user}"
    return found.pw_dir


def _real(path: str, files: Links) -> str:
    """Return a path with its symbolic links followed, as far as there are any."""
    waiting = [part for part in reversed(path.split("/")) if part]
    at, links = "/", 0
    while waiting:
        part = waiting.pop()
        if part == "..":
            at = posixpath.dirname(at)
            continue
        here = posixpath.join(at, part)
        try:
            is_link = files.lstat(here).kind == "symlink"
        except (OSError, ValueError):
            return posixpath.normpath(posixpath.join(here, *reversed(waiting)))
        if not is_link:
            at = here
            continue
        target = files.readlink(here)
        links += 1
        if links > _LINKS:
            raise unreadable("a path", path, "its links lead in a circle")
        at = "/" if target.startswith("/") else at
        waiting.extend(each for each in reversed(target.split("/")) if each not in ("", "."))
    return at
