"""Where a thread's checkpoints are: pure rules that turn ids into paths of the volume.

    /.fmos/checkpoints/<thread>/<namespace>/checkpoints/<checkpoint>
                                           /blobs/<channel>/<version>
                                           /writes/<checkpoint>/<task>.<index>

Ids are any text; a file name is made of them so that two ids never share one. Nothing reads an
id back from a name: each checkpoint and write file holds its own ids.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from urllib.parse import quote, unquote

ROOT = "/.fmos/checkpoints"

_LONGEST_NAME = 200


def file_name(identifier: str) -> str:
    """Return the file name of an id: percent-encoded, or a digest where that gets too long."""
    encoded = quote(identifier, safe="@+:=,", errors="surrogatepass")
    if encoded in ("", ".", ".."):
        # "%" alone and "%2E" are never made by `quote`, so these stay unique.
        return "%" + encoded.replace(".", "%2E")
    if len(encoded) > _LONGEST_NAME:
        return "%%" + hashlib.sha256(identifier.encode(errors="surrogatepass")).hexdigest()
    return encoded


def sort_key(name: str) -> str:
    """Return what file names of checkpoints sort by: their ids, which grow with time."""
    return unquote(name)


@dataclass(frozen=True, slots=True)
class Shelf:
    """The folder of one thread and namespace."""

    path: str

    @classmethod
    def of(cls, thread: str, namespace: str) -> Shelf:
        """Return the folder for a thread and a checkpoint namespace."""
        return cls(f"{thread_folder(thread)}/{file_name(namespace)}")

    @property
    def checkpoints(self) -> str:
        """The folder with one file per checkpoint."""
        return f"{self.path}/checkpoints"

    def checkpoint(self, checkpoint_id: str) -> str:
        """Return the path of one checkpoint."""
        return f"{self.checkpoints}/{file_name(checkpoint_id)}"

    def blob(self, channel: str, version: str | int | float) -> str:
        """Return the path of one channel's value at one version."""
        return f"{self.path}/blobs/{file_name(channel)}/{file_name(str(version))}"

    def writes(self, checkpoint_id: str) -> str:
        """Return the folder of the writes that wait on a checkpoint."""
        return f"{self.path}/writes/{file_name(checkpoint_id)}"

    def write(self, checkpoint_id: str, task: str, index: int) -> str:
        """Return the path of one waiting write."""
        return f"{self.writes(checkpoint_id)}/{file_name(task)}.{index}"


def thread_folder(thread: str) -> str:
    """Return the folder of a thread."""
    return f"{ROOT}/{file_name(thread)}"
