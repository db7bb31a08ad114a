"""Keys with JSON values: hidden files under `/.fmos/kv`, so they follow forks and restores.

A key is the name of its file, quoted. Any handle reaches them here, and only here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

from . import acl, directories, files, journal, tree
from .directories import Place
from .errors import InvalidArgument, NotFound
from .nodes import View
from .paths import KV_PATH, NAME_BYTES, join

_DIRECTORY_MODE = 0o700
_FILE_MODE = 0o600

Run = Callable[..., Any]


class KeyValues:
    """`fs.kv`: the keys of one branch."""

    def __init__(self, change: Run, ask: Run) -> None:
        """Take what runs a function on the handle's branch, for writing and for reading."""
        self._change = change
        self._ask = ask

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or the default when it is not set."""
        return self._ask(_get, key, default)

    def set(self, key: str, value: Any) -> None:
        """Set a key to anything that JSON can hold.

        Raises:
            InvalidArgument: the key is empty or too long, or the value is not JSON.
        """
        self._change(_set, key, _encode(key, value))

    def delete(self, key: str) -> bool:
        """Remove a key, and say whether it was set."""
        return self._change(_delete, key)

    def list(self, prefix: str = "") -> list[str]:
        """Return the keys that begin with a prefix, sorted."""
        return self._ask(_list, prefix)


def _encode(key: str, value: Any) -> bytes:
    try:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (TypeError, ValueError) as error:
        raise InvalidArgument(key, f"its value is not JSON: {error}") from error


def to_name(key: str) -> str:
    """Return the file name of a key.

    Raises:
        InvalidArgument: the key is empty, is no text or has more than 255 bytes when quoted.
    """
    try:
        name = quote(key, safe=" ").replace(".", "%2E")
    except (TypeError, UnicodeEncodeError) as error:
        raise InvalidArgument(ascii(key), "a key is text that UTF-8 can hold") from error
    if not name or len(name) > NAME_BYTES:
        raise InvalidArgument(key, f"a key has 1 to {NAME_BYTES} bytes when it is quoted")
    return name


def _inner(view: View) -> View:
    """Return the same view with the door to the system area open."""
    return View(view.session, view.state, True, view.principal)


def _place(view: View, key: str) -> Place:
    return directories.locate(_inner(view), join(KV_PATH, to_name(key)), follow=False)


def _get(view: View, key: str, default: Any) -> Any:
    acl.require_read(view, join(KV_PATH, to_name(key)))
    try:
        place = _place(view, key)
    except NotFound:
        return default
    if place.node is None:
        return default
    return json.loads(files.content(view, files.require_file(place, place.path)))


def _set(view: View, key: str, value: bytes) -> None:
    acl.require_write(view, join(KV_PATH, to_name(key)))
    try:
        place = _place(view, key)
    except NotFound:
        tree.mkdir(_inner(view), KV_PATH, _DIRECTORY_MODE, True, True)
        place = _place(view, key)
    files.write_at(view, place, value, _FILE_MODE, "kv.set")


def _delete(view: View, key: str) -> bool:
    acl.require_write(view, join(KV_PATH, to_name(key)))
    try:
        place = _place(view, key)
    except NotFound:
        return False
    if place.node is None:
        return False
    directories.drop_entry(view, place.directory, place.name)
    journal.append(view, "kv.delete", place.path, before=place.node.id)
    return True


def _list(view: View, prefix: str) -> list[str]:
    try:
        directory = directories.resolve(_inner(view), KV_PATH)
    except NotFound:
        return []
    names = directories.names(view.session, directory)
    limits = view.limits
    if limits is not None:
        names = [name for name in names if limits.readable(join(KV_PATH, name))]
    return sorted(key for key in map(unquote, names) if key.startswith(prefix))
