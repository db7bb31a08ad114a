"""Runs verifiers over claims, without metering: what `fmos verify` does where no agent pays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

from fmos.drivers import VERIFIERS, Drivers
from fmos.errors import BudgetExceededError, DeniedError, DriverError, FmosError
from fmos.verify.model import Claim, ClaimVerdict, Context, Finding, Result, Verifier, undecided
from fmos.verify.selection import Selector, TableSelector, applicable, conclude

#: What stands around one run: pays for it, and is told the finding.
Around: TypeAlias = Callable[[Claim, Verifier], AbstractContextManager[Callable[[Finding], None]]]


class Checker:
    """Chooses verifiers for claims and runs them. Thread-safe.

    Args:
        drivers: Where verifiers come from.
        selector: Chooses among those that take a claim; by default the table of `selection`.
    """

    def __init__(self, drivers: Drivers | None = None, selector: Selector | None = None) -> None:
        self._drivers = drivers or Drivers(VERIFIERS)
        self._selector = selector or TableSelector()
        self._made: dict[str, Verifier] = {}
        self._problems: dict[str, str] = {}
        self._looked = False

    @property
    def problems(self) -> dict[str, str]:
        """Verifiers that cannot be used, and why."""
        self._verifiers()
        return dict(self._problems)

    def check(
        self,
        claim: Claim,
        context: Context,
        *,
        allowed: Callable[[str], bool] = lambda name: True,
        around: Around | None = None,
    ) -> Result:
        """Return what the chosen verifiers find of one claim.

        Raises:
            BudgetExceededError, DeniedError: what `around` raises; nothing has run then.
        """
        takers = applicable(claim, self._verifiers())
        fitting = [each for each in takers if allowed(each.name)]
        skipped = [f"{each.name} is denied" for each in takers if each not in fitting]
        findings: list[Finding] = []
        for verifier in self._selector.choose(claim, fitting):
            entered = around(claim, verifier) if around else nullcontext(_ignore)
            try:
                with entered as tell:
                    finding = self._run(verifier, claim, context)
                    tell(finding)
            except (BudgetExceededError, DeniedError) as error:
                if not findings:
                    raise
                skipped.append(f"{verifier.name}: {error}")
                break
            findings.append(finding)
        return _result(claim, findings, skipped, self._problems)

    def check_all(
        self,
        claims: Sequence[Claim],
        context: Context,
        *,
        allowed: Callable[[str], bool] = lambda name: True,
        around: Around | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[Result]:
        """Return a result for each claim; those that nothing is left to pay for are undecided.

        `progress` is told how many are checked.
        """
        results: list[Result] = []
        refused = ""
        for claim in claims:
            if progress is not None:
                progress(len(results))
            if not refused:
                try:
                    results.append(self.check(claim, context, allowed=allowed, around=around))
                    continue
                except (BudgetExceededError, DeniedError) as error:
                    refused = str(error)
            results.append(_result(claim, [], [refused], {}))
        return results

    def _run(self, verifier: Verifier, claim: Claim, context: Context) -> Finding:
        try:
            found = self._drivers.run(verifier.name, lambda: verifier.check(claim, context))
        except DriverError as error:
            found = undecided(str(error))
        if not isinstance(found, Finding):
            found = undecided(f"it returned no finding but {type(found).__name__}")
        return found.model_copy(update={"verifier": verifier.name})

    def _verifiers(self) -> list[Verifier]:
        if not self._looked:
            for name in self._drivers.names():
                try:
                    self._made[name] = _checked(name, self._drivers.make(name))
                except FmosError as error:
                    self._problems[name] = str(error)
            self._looked = True
        return list(self._made.values())


def _checked(name: str, made: object) -> Verifier:
    if not isinstance(made, Verifier):
        raise DriverError(
            f"the verifier {name!r} has not all of name, claim_types, cost and check",
            hint="docs/verifiers.md shows one",
        )
    if made.name != name:
        raise DriverError(
            f"the verifier {name!r} calls itself {made.name!r}",
            hint="let the entry point and its `name` be the same",
        )
    return made


def _result(
    claim: Claim, findings: Sequence[Finding], skipped: Sequence[str], problems: dict[str, str]
) -> Result:
    verdict, confidence, said = conclude(claim, findings)
    if not findings and skipped:
        said = skipped[0]
    elif not findings and problems:
        said = f"no verifier takes it ({'; '.join(problems.values())})"
    return Result(
        claim=claim,
        verdict=verdict if findings else ClaimVerdict.UNDECIDED,
        confidence=confidence,
        explanation=said,
        findings=tuple(findings),
        skipped=tuple(skipped),
    )


def _ignore(finding: Finding) -> None:
    return None
