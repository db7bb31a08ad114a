"""How a command gets to see a branch: one module for each way, and one small protocol."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from agentfs.errors import InvalidArgument, NoBackend

if TYPE_CHECKING:
    from agentfs.filesystem import AgentFS
    from agentfs.run.difference import Difference
    from agentfs.run.places import Place


@dataclass(frozen=True, slots=True)
class Target:
    """What a command sees: a directory of the branch, and the host directory it stands for."""

    at: str
    host: str | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A view that is there: a host path, and what must run before the path leads to it.

    `wrap` is the beginning of a command line; `mapped` says that it makes us root of a namespace.
    """

    source: str
    wrap: tuple[str, ...] = ()
    mapped: bool = False


class Unprepared(Exception):
    """A back end that seemed to work could not make the view."""


class Backend(Protocol):
    """One way; `keeps` says that changes are on the host until they are brought in."""

    name: ClassVar[str]
    keeps: ClassVar[bool]

    def why_not(self) -> str:
        """Say why it does not work here; empty when it does. Asked once per process."""
        ...

    def prepare(
        self, fs: AgentFS, target: Target, place: Place
    ) -> AbstractContextManager[Prepared]:
        """Make the view; `Unprepared` says that it does not work here after all."""
        ...

    def difference(self, place: Place) -> Difference:
        """Return what the command changed; only where `keeps`."""
        ...


ORDER = ("fuse", "overlayfs", "copy")


def get(name: str) -> Backend:
    """Return a back end by its name.

    Raises:
        InvalidArgument: there is none of that name.
    """
    if name == "fuse":
        from . import fuse  # noqa: PLC0415 - only what is used is loaded

        return fuse.Fuse()
    if name == "overlayfs":
        from . import overlayfs  # noqa: PLC0415

        return overlayfs.Overlayfs()
    if name == "copy":
        from . import copy  # noqa: PLC0415

        return copy.Copy()
    raise InvalidArgument(name, f"a back end is auto, {', '.join(ORDER)}")


@dataclass(frozen=True, slots=True)
class Choice:
    """The back end that was taken, and why those before it were not."""

    backend: Backend
    passed: Sequence[tuple[str, str]] = ()


def choose(name: str) -> Choice:
    """Return the back end of a name, or with "auto" the first that works here.

    Raises:
        InvalidArgument: there is none of that name.
        NoBackend: it does not work here; the reason says why.
    """
    passed: list[tuple[str, str]] = []
    for each in ORDER if name == "auto" else (name,):
        backend = get(each)
        reason = backend.why_not()
        if not reason:
            return Choice(backend, passed)
        passed.append((each, reason))
    raise NoBackend(name, explain(passed) if name == "auto" else passed[0][1])


def explain(passed: Sequence[tuple[str, str]]) -> str:
    """Say why back ends do not work here."""
    return "; ".join(f"not {name}: {reason}" for name, reason in passed)
