"""A copy of the view in a temporary directory; what differs afterwards is brought in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from agentfs.run import difference
from agentfs.run.difference import Difference
from agentfs.run.materialise import Writer

from . import Prepared, Target

if TYPE_CHECKING:
    from agentfs.filesystem import AgentFS
    from agentfs.run.places import Place

_TREE, _BEFORE = "tree", "before.json"


class Copy:
    """Works everywhere, and costs as much as the tree has files."""

    name: ClassVar[str] = "copy"
    keeps: ClassVar[bool] = True

    def why_not(self) -> str:
        """Return nothing: it works everywhere."""
        return ""

    @contextmanager
    def prepare(self, fs: AgentFS, target: Target, place: Place) -> Iterator[Prepared]:
        """Write the view out, and note what it is like before the command."""
        tree = place.folder(_TREE)
        with fs.view_for_reading():
            Writer(fs).tree(target.at, tree)
        difference.settle(place.path)
        difference.save(difference.survey(tree), place.inside(_BEFORE))
        place.keep()
        yield Prepared(tree)

    def difference(self, place: Place) -> Difference:
        """Return what differs from the tree as it was written out."""
        before = difference.load(place.inside(_BEFORE))
        return difference.since(before, place.inside(_TREE))
