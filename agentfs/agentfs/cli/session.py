"""What the global options of one call say, and how its commands reach the volume."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agentfs.cli.failures import Refusal

if TYPE_CHECKING:
    from agentfs import AgentFS


@dataclass(frozen=True, slots=True)
class Session:
    """The volume, branch and view that the global options name."""

    file: Path
    branch: str | None
    system: bool

    @contextmanager
    def open(self) -> Iterator[AgentFS]:
        """Open the volume as it is; only `init` may create one.

        Raises:
            Refusal: there is no volume, or no branch of that name; near names are suggested.
        """
        from agentfs import AgentFS  # noqa: PLC0415 - keeps --help fast
        from agentfs.errors import BranchNotFound  # noqa: PLC0415

        self.require_file()
        try:
            with AgentFS.open(
                str(self.file), branch=self.branch, create=False, system=self.system,
                principal=_user(),
            ) as fs:  # fmt: skip
                yield fs
        except BranchNotFound as error:
            raise self._with_suggestion(error) from error

    def require_file(self) -> None:
        """Refuse with the way out when the file is missing or a directory."""
        shown = str(self.file)
        if self.file.is_dir():
            raise Refusal(f"{shown!r} is a directory, not a volume; name a file with -f")
        if not self.file.exists():
            raise Refusal(f"no volume at {shown!r}; run `agentfs -f {shown} init`", 3)

    def _with_suggestion(self, error: Exception) -> Exception:
        from agentfs import AgentFS  # noqa: PLC0415 - keeps --help fast

        name: str = getattr(error, "subject", "")
        with AgentFS.open(str(self.file), create=False) as fs:
            known = [each.name for each in (*fs.branches(), *fs.snapshots())]
        near = [each for each in difflib.get_close_matches(name, known, n=3) if each != name]
        if not near:
            return error
        names = " or ".join(f"{each!r}" for each in near)
        code: int = getattr(error, "exit_code", 1)
        return Refusal(f"no such branch or snapshot: {name!r}; did you mean {names}?", code)


def _user() -> str:
    """Who the journal says has done it: the login name of the person at the command line."""
    import getpass  # noqa: PLC0415 - only where a volume is opened

    try:
        return f"user:{getpass.getuser()}"
    except (KeyError, OSError):
        return f"uid:{os.getuid()}"
