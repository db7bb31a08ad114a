"""Brings what a command left on the host into its branch, or into one beside it.

While the command ran, others may have written to the branch. Where both changed the same path,
nothing is mixed: all that the command did goes to a new branch, and the branch stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agentfs.paths import is_system, join

from . import difference
from .difference import Bringing, Difference
from .records import Changes, Open

if TYPE_CHECKING:
    from agentfs.filesystem import AgentFS

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Landed:
    """Where the changes of a run are: in `kept_on` when the branch had `conflicts`."""

    changes: Changes
    kept_on: str | None = None
    conflicts: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


def changes_since(fs: AgentFS, run: Open) -> Changes:
    """Return what differs in the run's view from the state before it."""
    return Changes.of(fs.diff(run.seq, str(fs.branch), run.target.at))


def land(fs: AgentFS, run: Open, found: Difference) -> Landed:
    """Bring a difference in; a transaction must be open."""
    at = run.target.at
    found, barred = _without_system(fs, found, at)
    meanwhile = changes_since(fs, run).paths if _others_wrote(fs, run) else ()
    both = difference.conflicts(found, at, meanwhile, fs.is_dir)
    if both:
        return _beside(fs, run, found, both, barred)
    bringing = Bringing(fs, at, barred)
    bringing.run(found)
    skipped = tuple(bringing.skipped)
    if not meanwhile:
        return Landed(changes_since(fs, run), skipped=skipped)
    paths = set(meanwhile)
    differing = fs.diff(run.seq, str(fs.branch), at)
    return Landed(Changes.of(e for e in differing if e.path not in paths), skipped=skipped)


def _without_system(fs: AgentFS, found: Difference, at: str) -> tuple[Difference, list[str]]:
    """Leave out what a command put where the system area is; its view has none of that."""
    if fs.system or at != "/":
        return found, []
    kept = [each for each in found.present if not is_system(join(at, each.relative))]
    barred = [each.source for each in found.present if is_system(join(at, each.relative))]
    removed = [each for each in found.removed if not is_system(join(at, each))]
    return replace(found, present=kept, removed=removed), barred


def _others_wrote(fs: AgentFS, run: Open) -> bool:
    rows = fs.journal(since=run.seq, branch=str(fs.branch))
    return any(each.before is not None or each.after is not None for each in rows)


def _beside(
    fs: AgentFS, run: Open, found: Difference, both: list[str], barred: list[str]
) -> Landed:
    """Bring it into a new branch that begins with the branch as it is now."""
    name = f"{fs.branch}{'~' if fs.confined else '-'}run-{run.id}"
    beside = fs.fork(name)
    bringing = Bringing(beside, run.target.at, barred)
    bringing.run(found)
    changes = Changes.of(fs.diff(str(fs.branch), name, run.target.at))
    return Landed(changes, name, tuple(both), tuple(bringing.skipped))


def explain(landed: Landed, branch: str) -> str:
    """Return a sentence about a conflict, with the way out."""
    shown = ", ".join(landed.conflicts[:_SHOWN])
    more = ", ..." if len(landed.conflicts) > _SHOWN else ""
    return (
        f"others changed the same paths of {branch!r} meanwhile ({shown}{more}), so what the"
        f" command did is on the new branch {landed.kept_on!r}; look with"
        f" `agentfs diff {branch} {landed.kept_on}`"
    )
