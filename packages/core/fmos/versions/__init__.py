"""Versions of what the system may improve: proposed, evaluated, tried on a share, accepted, undone.

An artefact is the file `/.fmos/artefacts/<kind>/<name>` of the tenant's template branch; a
candidate is a fork of that branch, acceptance a merge, rollback a restore.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fmos.runtime.kernel import Kernel


def watch_canaries(kernel: Kernel) -> int:
    """Take back the canaries of a home that do worse than their control; return how many."""
    from fmos.versions.watch import watch_canaries as watch  # noqa: PLC0415 - the kernel is above

    return watch(kernel)
