"""Pure path rules: normal form, limits, names as stored, and the system area."""

from __future__ import annotations

import os
from functools import lru_cache

from .errors import InvalidName, NameTooLong, PermissionDenied

NAME_BYTES = 255
# What the names of a volume's own files on the host end with, after the name of the volume.
VOLUME_SUFFIXES = ("", "-wal", "-shm", "-journal", "-triggers")
# Twice what a system call takes: on a mount, a program names as much from any directory.
PATH_BYTES = 8192
SYSTEM_NAME = ".fmos"
SYSTEM_PATH = "/.fmos"
OVERLAYS_PATH = "/.fmos/overlays"
KV_PATH = "/.fmos/kv"
# A name with a slash in the root, which no normal path leads to; see links.
LINKS_NAME = "/links"
LINKS_PATH = "//links"
_SYSTEM_PREFIX = SYSTEM_PATH + "/"
SYSTEM_REASON = "/.fmos belongs to the memory, context and checkpoint servers"

PathLike = str | os.PathLike[str]


def _is_plain(path: str) -> bool:
    """Say whether a path is short, ASCII and in normal form, as most are."""
    return (
        path.isascii()
        and 1 < len(path) <= NAME_BYTES
        and path[0] == "/"
        and path[-1] != "/"
        and "//" not in path
        and "/." not in path
        and "\0" not in path
    )


@lru_cache(maxsize=8192)
def _normal(path: str) -> str:
    if _is_plain(path):
        return path
    if "\0" in path:
        raise InvalidName(path, "a path cannot hold a NUL byte")
    if not path.startswith("/"):
        raise InvalidName(path, "a path in a volume is absolute and begins with '/'")
    if len(_encode(path)) > PATH_BYTES:
        raise NameTooLong(path, f"a path has at most {PATH_BYTES} bytes")
    names: list[str] = []
    for name in path.split("/"):
        if name == "..":
            del names[-1:]
        elif name and name != ".":
            if len(_encode(name)) > NAME_BYTES:
                raise NameTooLong(name, f"a name has at most {NAME_BYTES} bytes")
            names.append(name)
    return "/" + "/".join(names)


def _encode(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise InvalidName(ascii(text), "it has no encoding as bytes") from error


def normalise(path: PathLike, system: bool = True) -> str:
    """Return the normal form of a path: absolute, without `.`, `..` and empty names.

    `..` is removed from the text before any symbolic link is followed.

    Raises:
        InvalidName: the path is relative, holds a NUL byte or is too long.
        PermissionDenied: the path is in the system area and `system` is false.
    """
    normal = _normal(os.fspath(path))
    if not system and is_system(normal):
        raise PermissionDenied(normal, SYSTEM_REASON)
    return normal


def is_system(path: str) -> bool:
    """Say whether a normal path is the system area or inside it."""
    return path.startswith(SYSTEM_PATH) and (path == SYSTEM_PATH or path.startswith(_SYSTEM_PREFIX))


def split(path: str) -> tuple[str, str]:
    """Split a normal path into its parent and its last name; the root gives an empty name."""
    parent, _, name = path.rpartition("/")
    return parent or "/", name


def join(directory: str, name: str) -> str:
    """Join a normal directory path and one name."""
    return f"/{name}" if directory == "/" else f"{directory}/{name}"


def is_inside(path: str, directory: str) -> bool:
    """Say whether a normal path is a directory or below it."""
    return directory == "/" or path == directory or path.startswith(directory + "/")


def to_stored(text: str) -> str | bytes:
    """Return a name as the format stores it: text, or the bytes of what is not UTF-8."""
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return _encode(text)
    return text


def from_stored(stored: str | bytes) -> str:
    """Return a stored name as text, with surrogates for bytes that are not UTF-8."""
    return stored if isinstance(stored, str) else stored.decode("utf-8", "surrogateescape")
