"""The items of a store as files: where they are, and what is in one.

    /.fmos/store/<label>/.../!<key>

A folder stays when its last item goes: that another branch adds an item to a namespace while this
one empties it is then no conflict of a merge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentfs import AgentFS
from fmos_langgraph.codec import Codec
from fmos_langgraph.places import file_name, to_identifier
from fmos_langgraph.ranking import Index

ROOT = "/.fmos/store"
# No name that `file_name` makes begins with it, so that no label is taken for a key.
MARK = "!"

Address = tuple[tuple[str, ...], str]
"""The namespace and key of an item."""


@dataclass(frozen=True, slots=True)
class StoredItem:
    """What an item's file says, its value still as bytes.

    `names` has labels and key where the path cannot tell them.
    """

    data: bytes
    created_ns: int
    updated_ns: int
    ttl_minutes: float | None = None
    expires_ns: int | None = None
    index: Index = None
    names: list[bytes] | None = None

    def is_expired(self, now_ns: int) -> bool:
        """Return whether its time is over."""
        return self.expires_ns is not None and self.expires_ns <= now_ns


def folder_of(namespace: tuple[str, ...]) -> str:
    """Return the folder of a namespace."""
    return "/".join((ROOT, *map(file_name, namespace)))


def path_of(address: Address) -> str:
    """Return the path of an item."""
    namespace, key = address
    return f"{folder_of(namespace)}/{MARK}{file_name(key)}"


def is_item(path: str) -> bool:
    """Return whether a path below the root is that of an item."""
    return path.rpartition("/")[2].startswith(MARK)


def names_for(address: Address) -> list[bytes] | None:
    """Return what an item's file has to say of its labels and key: nothing, but for long ones."""
    namespace, key = address
    names = (*namespace, key)
    if all(to_identifier(file_name(each)) is not None for each in names):
        return None
    return [each.encode("utf-8", "surrogatepass") for each in names]


def address_of(path: str, item: StoredItem) -> Address:
    """Return the namespace and key of the item at a path."""
    if item.names is not None:
        *labels, key = (each.decode("utf-8", "surrogatepass") for each in item.names)
        return tuple(labels), key
    *folders, name = path.removeprefix(f"{ROOT}/").split("/")
    labels = (to_identifier(each) or "" for each in folders)
    return tuple(labels), to_identifier(name.removeprefix(MARK)) or ""


class ItemFiles:
    """The files of a branch's items, read and written in the caller's transaction."""

    def __init__(self, fs: AgentFS, codec: Codec) -> None:
        """Take a handle with access to the system area."""
        self._fs = fs
        self._codec = codec

    def read(self, path: str) -> StoredItem | None:
        """Return the item at a path, or None where there is none."""
        try:
            return self.load(self._fs.read(path))
        except FileNotFoundError:
            return None

    def load(self, data: bytes) -> StoredItem:
        """Return the item that a file's bytes hold."""
        return StoredItem(*self._codec.load(self._codec.decrypt(data)))

    def dump(self, value: Mapping[str, Any]) -> bytes:
        """Return the bytes of a value."""
        return self._codec.dump(dict(value), pack=False)

    def value(self, item: StoredItem) -> dict[str, Any]:
        """Return the value of an item, a new object each time."""
        return self._codec.load(item.data)

    def write(self, path: str, item: StoredItem) -> None:
        """Write an item, with the folders above it when they are not there yet."""
        fields = (getattr(item, name) for name in StoredItem.__slots__)
        data = self._codec.encrypt(self._codec.dump_fields(*fields))
        try:
            self._fs.write(path, data)
        except FileNotFoundError:
            self._fs.mkdir(path.rpartition("/")[0], parents=True, exist_ok=True)
            self._fs.write(path, data)

    def remove(self, path: str) -> None:
        """Remove an item where there is one."""
        if self._fs.exists(path):
            self._fs.remove(path)
