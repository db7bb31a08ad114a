"""What an import or export of an AgentFS 0.4 volume did, and what it had to leave out."""

from __future__ import annotations

from dataclasses import dataclass, field

from agentfs.types import Totals

KEPT = 1000


@dataclass(slots=True)
class Spec04Totals(Totals):
    """What moved between an AgentFS 0.4 volume and a branch.

    `links` are further names of files, `unchanged` what the branch had already. `removed` names the
    paths that the volume, an overlay, took away; `notes` what came along in another form.
    `failed` names what was left out, and `more` counts what these lists have no room for.
    """

    links: int = 0
    unchanged: int = 0
    keys: int = 0
    calls: int = 0
    more: int = 0
    removed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def leave_out(self, what: str, reason: str) -> None:
        """Name something that does not come along."""
        self._keep(self.failed, f"{what}: {reason}")

    def note(self, what: str, reason: str) -> None:
        """Name something that comes along, but not as it was."""
        self._keep(self.notes, f"{what}: {reason}")

    def take_away(self, path: str) -> None:
        """Name a path that was removed."""
        self._keep(self.removed, path)

    def _keep(self, names: list[str], text: str) -> None:
        if len(names) < KEPT:
            names.append(text)
        else:
            self.more += 1
