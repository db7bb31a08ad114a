"""The branch itself, mounted: every closed file is in the volume at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, ClassVar

from agentfs.run.difference import Difference

from . import Prepared, Target, Unprepared

if TYPE_CHECKING:
    from agentfs.filesystem import AgentFS
    from agentfs.run.places import Place


class Fuse:
    """Serves the view from a thread of this process."""

    name: ClassVar[str] = "fuse"
    keeps: ClassVar[bool] = False

    def why_not(self) -> str:
        """Say why it does not work here."""
        from agentfs.mount import unavailable  # noqa: PLC0415 - only what is used is loaded

        return unavailable() or ""

    @contextmanager
    def prepare(self, fs: AgentFS, target: Target, place: Place) -> Iterator[Prepared]:
        """Mount the view for the time of the command."""
        from agentfs.mount import Mounted, MountError  # noqa: PLC0415

        with ExitStack() as mounts:
            mounted = Mounted(fs, place.folder("view"), path=target.at)
            try:
                view = mounts.enter_context(mounted)
            except MountError as error:
                raise Unprepared(str(error)) from error
            yield Prepared(view)

    def difference(self, place: Place) -> Difference:
        """Return nothing: it is in the branch already."""
        return Difference()
