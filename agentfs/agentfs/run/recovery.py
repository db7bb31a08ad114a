"""Finishes runs that were killed: brings in what they left on the host, and writes their rows."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentfs.errors import AgentFSError, BranchNotFound

from . import backends, landing, places, records
from .landing import Landed
from .records import Changes, Open

if TYPE_CHECKING:
    from agentfs.filesystem import AgentFS

    from .places import Place


_DYING_S = 2.0
_PAUSE_S = 0.01


@dataclass(frozen=True, slots=True)
class Recovered:
    """A run that was killed, and what became of its changes; `lost` says why they are gone."""

    command: tuple[str, ...]
    branch: str
    backend: str
    changes: Changes
    kept_on: str | None = None
    conflicts: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    lost: str = ""


def recover(fs: AgentFS, *, every_branch: bool = False) -> list[Recovered]:
    """Finish the killed runs of this handle's branch, or of all, and remove what they left.

    Runs that are still under way are left alone. May be called by many processes at once.
    """
    found: list[Recovered] = []
    for run in records.unfinished(fs):
        if every_branch or run.branch == str(fs.branch):
            done = _one(fs, run)
            if done is not None:
                found.append(done)
    places.prune()
    return found


def _one(fs: AgentFS, run: Open) -> Recovered | None:
    place = _taken(run)
    if place is None:
        return None
    try:
        branch = fs.on(run.branch)
        done = _finish(branch, run, place)
    except BranchNotFound:
        place.leave()
        gone = f"the branch {run.branch!r} is gone; its files stay in {run.place}"
        return Recovered(run.command, run.branch, run.backend, Changes(), lost=gone)
    except BaseException:
        place.leave()
        raise
    place.remove()
    return done


def _taken(run: Open) -> Place | None:
    """Take the place of a run whose process is gone, when its sandbox is gone as well."""
    deadline = time.monotonic() + _DYING_S
    while (place := places.take_over(run.place)) is None and not _is_alive(run.pid):
        if time.monotonic() > deadline:
            break
        time.sleep(_PAUSE_S)
    return place


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _finish(fs: AgentFS, run: Open, place: Place) -> Recovered | None:
    """Bring in what is there and write the row, in one transaction."""
    backend = backends.get(run.backend)
    lost = ""
    with fs.transaction():
        landed = Landed(Changes())
        if backend.keeps and not os.path.exists(place.inside("keeps")):
            lost = "" if os.path.isdir(place.path) else f"the directory {run.place} is gone"
        elif backend.keeps:
            landed = landing.land(fs, run, backend.difference(place))
        else:
            with suppress(AgentFSError):  # the state before it may be too old by now
                landed = Landed(landing.changes_since(fs, run))
        row = records.end(
            fs, run, landed.changes, None, exit_code=None, killed=True, lost=lost,
            kept_on=landed.kept_on, conflicts=list(landed.conflicts),
        )  # fmt: skip
    if row is None:
        return None
    return Recovered(
        run.command, run.branch, run.backend, landed.changes, landed.kept_on, landed.conflicts,
        landed.skipped, lost,
    )  # fmt: skip
