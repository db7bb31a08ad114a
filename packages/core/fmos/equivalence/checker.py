"""The checker: runs a sequence on both realisations, judges each, compares them, and shortens."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fmos.contract.manifest import Manifest
from fmos.equivalence.comparing import differences
from fmos.equivalence.invariants import broken
from fmos.equivalence.minimal import Shortener
from fmos.equivalence.model import Broken, Difference, Progress, Report, Step, Tolerance
from fmos.equivalence.realisation import Realisation
from fmos.equivalence.running import Approvals, Run, run
from fmos.errors import ArgumentError, ContractError
from fmos.runtime.kernel import Kernel

_TRIES = 60
_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class _Found:
    broken: tuple[Broken, ...]
    differences: tuple[Difference, ...]

    @property
    def kinds(self) -> set[tuple[str, str]]:
        """What went wrong, without where in the sequence."""
        rules = {(each.where, each.rule) for each in self.broken}
        return rules | {("differs", each.what.partition(" of ")[0]) for each in self.differences}


class Checker:
    """Compares two realisations under the contract of the first.

    Args:
        first: Its contract, with its policies, is the one that both must keep.
        second: May be narrower than the first; it differs then, but keeps the contract.
        tolerance: What may differ.
        approvals: Makes what records a person's answers, for sequences with `answer`.
    """

    def __init__(
        self,
        first: Realisation,
        second: Realisation,
        *,
        tolerance: Tolerance | None = None,
        approvals: Approvals | None = None,
    ) -> None:
        if first.name == second.name:
            first, second = first.named(f"{first.name} (1)"), second.named(f"{second.name} (2)")
        self._both = (first, second)
        self._tolerance = tolerance or Tolerance()
        self._approvals = approvals
        self._own = (_manifest(first), _manifest(second))

    def check(
        self,
        steps: Sequence[Step],
        *,
        shorten: bool = True,
        tries: int = _TRIES,
        seconds: float = _SECONDS,
        progress: Progress | None = None,
    ) -> Report:
        """Run the steps on both, and say whether the contract holds and what differs first.

        A failure is shortened to the fewest steps that show one of its kinds, within `tries`
        sequences and `seconds`. `progress` is told what is worked on.

        Raises:
            ArgumentError: if a step cannot be done on one of them.
        """
        found = self._once(steps, progress)
        shortest: Sequence[Step] = ()
        tried = 0
        if shorten and found.kinds:
            kind, index = _first_failure(found)
            shortener = Shortener(partial(self._shows, kind), tries, seconds, progress)
            shortest = shortener.shortest(steps, suspect=index)
            tried = shortener.tries
        first, second = self._both
        names = {each.where for each in found.broken}
        return Report(
            first=first.name,
            second=second.name,
            contract=self._own[0].hash,
            steps=len(steps),
            holds={each.name: each.name not in names for each in self._both},
            equivalent=not found.differences,
            broken=found.broken,
            differences=found.differences,
            counterexample=tuple(shortest),
            tries=tried,
        )

    def _once(self, steps: Sequence[Step], progress: Progress | None = None) -> _Found:
        runs = [run(each, steps, self._approvals, progress) for each in self._both]
        judged = [self._judged(each, ran) for each, ran in enumerate(runs)]
        return _Found((*judged[0], *judged[1]), differences(runs[0], runs[1], self._tolerance))

    def _shows(self, kind: tuple[str, str], steps: Sequence[Step]) -> bool:
        """Return whether a sequence shows a failure; a broken promise needs one run only."""
        for which, realisation in enumerate(self._both):
            if realisation.name == kind[0]:
                ran = run(realisation, steps, self._approvals)
                return kind[1] in {each.rule for each in self._judged(which, ran)}
        return kind in self._once(steps).kinds

    def _judged(self, which: int, ran: Run) -> tuple[Broken, ...]:
        return broken(ran, self._own[which], self._own[0])


def _first_failure(found: _Found) -> tuple[tuple[str, str], int | None]:
    """Return the failure to keep while shortening, a broken promise first, and its step."""
    if found.broken:
        first = found.broken[0]
        return (first.where, first.rule), first.index
    differs = found.differences[0]
    return ("differs", differs.what.partition(" of ")[0]), differs.index


def _manifest(realisation: Realisation) -> Manifest:
    """Return the sealed contract of a realisation's documents, by a kernel that is as it should be.

    Raises:
        ContractError: if they are broken.
    """
    with tempfile.TemporaryDirectory(prefix="fmos-eq-") as folder:
        realisation.furnish(Path(folder))
        with Kernel.open(folder) as kernel:
            manifest = kernel.manifest(realisation.principal)
    if manifest is None:
        raise ContractError(f"the realisation {realisation.name!r} has no contract")
    return manifest


def require_alike(first: Realisation, second: Realisation) -> None:
    """Refuse two realisations for different agents: their accounts would never be the same.

    Raises:
        ArgumentError: naming both.
    """
    one, other = first.principal, second.principal
    if one != other:
        raise ArgumentError(
            f"{first.name!r} is for {one} and {second.name!r} for {other}",
            hint="give both contracts one name, and both the same tenant and session",
        )
