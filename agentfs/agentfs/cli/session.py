"""What the global options of one call say, and how its commands reach the volume."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Literal

from agentfs.cli.failures import Refusal

if TYPE_CHECKING:
    from agentfs import AgentFS


@dataclass(frozen=True, slots=True)
class Session:
    """The volume, branch, view and key that the global options name."""

    file: Path
    branch: str | None
    system: bool
    key_file: Path | None = None
    durability: Literal["normal", "full"] = "normal"

    @contextmanager
    def look(self, at: str | None = None) -> Iterator[AgentFS]:
        """Open the volume, as it is or was at a moment, and see one state of it to the end."""
        with self.open() as fs:
            seen = fs if at is None else fs.at(at)
            with seen.view_for_reading():
                yield seen

    @contextmanager
    def open(self) -> Iterator[AgentFS]:
        """Open the volume as it is; only `init` may create one.

        Raises:
            Refusal: there is no volume, or no branch of that name; near names are suggested.
        """
        from agentfs.errors import BranchNotFound  # noqa: PLC0415 - keeps --help fast

        self.require_file()
        try:
            with self.open_volume(branch=self.branch) as fs:
                yield fs
        except BranchNotFound as error:
            raise self._with_suggestion(error) from error

    def open_volume(self, *, branch: str | None = None, create: bool = False) -> AgentFS:
        """Open the volume with the options that hold for every command."""
        from agentfs import AgentFS  # noqa: PLC0415 - keeps --help fast

        key = self._key()
        encrypted: dict[str, Any] = {} if key is None else {"key": key}
        return AgentFS.open(
            str(self.file), branch=branch, create=create, system=self.system, principal=_user(),
            durability=self.durability, **encrypted,
        )  # fmt: skip

    def _key(self) -> str | None:
        """Return what --key-file holds, without the line's end, or else $AGENTFS_KEY."""
        if self.key_file is None:
            return os.environ.get("AGENTFS_KEY") or None
        try:
            key = self.key_file.read_text(encoding="utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise Refusal(f"key file {str(self.key_file)!r} is no UTF-8 text", 2) from None
        if not key:
            raise Refusal(f"key file {str(self.key_file)!r} is empty", 2)
        return key

    def require_file(self) -> None:
        """Refuse with the way out when the file is missing or a directory."""
        shown = str(self.file)
        if self.file.is_dir():
            raise Refusal(f"{shown!r} is a directory, not a volume; name a file with -f")
        if not self.file.exists():
            raise Refusal(f"no volume at {shown!r}; run `agentfs -f {quote(shown)} init`", 3)

    def _with_suggestion(self, error: Exception) -> Exception:
        name: str = getattr(error, "subject", "")
        with self.open_volume() as fs:
            known = [each.name for each in (*fs.branches(), *fs.snapshots())]
        near = [each for each in difflib.get_close_matches(name, known, n=3) if each != name]
        if not near:
            return error
        names = " or ".join(f"{each!r}" for each in near)
        code: int = getattr(error, "exit_code", 1)
        return Refusal(f"no such branch or snapshot: {name!r}; did you mean {names}?", code)


def _user() -> str:
    """Who the journal says has done it: the login name of the person at the command line.

    A command that a trigger runs has the trigger's name in its environment.
    """
    if principal := os.environ.get("AGENTFS_PRINCIPAL"):
        return principal
    import getpass  # noqa: PLC0415 - only where a volume is opened

    try:
        return f"user:{getpass.getuser()}"
    except (KeyError, OSError):
        return f"uid:{os.getuid()}"
