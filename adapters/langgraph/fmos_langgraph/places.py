"""Where a thread's checkpoints are: pure rules that turn ids into paths of the volume.

    /.fmos/checkpoints/<thread>/<namespace>/checkpoints/<checkpoint>
                                           /values/<channel>!<checkpoint>
                                           /writes/<checkpoint>

Ids are any text; a file name is made of them so that two ids never share one. An id too long for
a name becomes a digest, and a file `%id` in its folder says what it was. Nothing else inside a
thread's folder names the thread, so that a copy of the folder is a thread of its own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from urllib.parse import quote, unquote

ROOT = "/.fmos/checkpoints"
ID_FILE = "%id"

_LONGEST_NAME = 110


def file_name(identifier: str) -> str:
    """Return the file name of an id: percent-encoded, or a digest where that gets too long."""
    encoded = quote(identifier, safe="@+:=,|", errors="surrogatepass")
    if encoded in ("", ".", ".."):
        # "%" alone and "%2E" are never made by `quote`, so these stay unique.
        return encoded.replace(".", "%2E") or "%"
    if len(encoded) > _LONGEST_NAME:
        return "%%" + hashlib.sha256(identifier.encode(errors="surrogatepass")).hexdigest()
    return encoded


def to_identifier(name: str) -> str | None:
    """Return the id that a file name was made of, or None where that is a digest."""
    if name.startswith("%%"):
        return None
    return "" if name == "%" else unquote(name, errors="surrogatepass")


def thread_folder(thread: str) -> str:
    """Return the folder of a thread."""
    return f"{ROOT}/{file_name(thread)}"


def value_name(channel: str, checkpoint_id: str) -> str:
    """Return the file name of a channel's value that came with a checkpoint."""
    return f"{file_name(channel)}!{file_name(checkpoint_id)}"


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of one thread and namespace."""

    path: str

    @classmethod
    def of(cls, thread: str, namespace: str) -> Place:
        """Return the folder for a thread and a checkpoint namespace."""
        return cls(f"{thread_folder(thread)}/{file_name(namespace)}")

    @property
    def checkpoints(self) -> str:
        """The folder with one file per checkpoint."""
        return f"{self.path}/checkpoints"

    @property
    def values(self) -> str:
        """The folder with the channel values that are too large for a checkpoint's own file."""
        return f"{self.path}/values"

    @property
    def pending(self) -> str:
        """The folder with one file of waiting writes per checkpoint."""
        return f"{self.path}/writes"

    def checkpoint(self, checkpoint_id: str) -> str:
        """Return the path of one checkpoint."""
        return f"{self.checkpoints}/{file_name(checkpoint_id)}"

    def value(self, name: str) -> str:
        """Return the path of a large value of which a checkpoint has the name."""
        return f"{self.values}/{name}"

    def writes(self, checkpoint_id: str) -> str:
        """Return the path of the writes that wait on a checkpoint."""
        return f"{self.pending}/{file_name(checkpoint_id)}"
