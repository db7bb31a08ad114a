"""Verification as an agent's operation: paid from its account, and noted in the journal.

Each run is reserved in the ledger, then its intent is a row `verify.run`, then the verifier runs,
then its outcome is a row and what it cost is committed. The claim itself stays out of the journal:
only its keyed digest is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from fmos.canonical import canonical_json
from fmos.client.client import Client
from fmos.drivers import VERIFIERS, Drivers
from fmos.errors import BudgetExceededError, DeniedError, FmosError
from fmos.replay.recording import Call
from fmos.runtime.kernel import Kernel
from fmos.runtime.standing import Standing
from fmos.types import Principal, new_id
from fmos.verify.checking import Checker
from fmos.verify.model import Claim, Context, Finding, Result, Source, SourceFinder, Verifier
from fmos.verify.selection import Selector

EVENT = "verify.run"
_MAX_SOURCE_BYTES = 16_000_000
_PART = 16_000


class Verification:
    """The verifiers of one home. Thread-safe."""

    def __init__(
        self, kernel: Kernel, drivers: Drivers | None = None, selector: Selector | None = None
    ) -> None:
        self._kernel = kernel
        drivers = drivers or Drivers(VERIFIERS, kernel.settings.drivers)
        self._checker = Checker(drivers, selector)

    @property
    def problems(self) -> dict[str, str]:
        """Verifiers that cannot be used, and why."""
        return self._checker.problems

    def verify(self, who: Principal, claim: Claim, context: Context | None = None) -> Result:
        """Check one claim with the verifiers that its type and risk ask for.

        A verifier that contract or policies deny as `verify.NAME` does not run.

        Raises:
            BudgetExceededError: if the account has no verifier run left.
            DeniedError: if contract or policies deny `verify`, or the agent is stopped.
            ContractError: if a contract or policy that binds the principal is broken.
        """
        standing = self._permitted(who)
        return self._checker.check(
            claim,
            context or Context(),
            allowed=_allowed(standing),
            around=self._around(standing),
        )

    def verify_all(
        self,
        who: Principal,
        claims: Sequence[Claim],
        context: Context | None = None,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> list[Result]:
        """Check claims in order; those that nothing is left to pay for are undecided.

        Raises:
            DeniedError: if contract or policies deny `verify`, or the agent is stopped.
            ContractError: if a contract or policy that binds the principal is broken.
        """
        standing = self._permitted(who)
        return self._checker.check_all(
            claims,
            context or Context(),
            allowed=_allowed(standing),
            around=self._around(standing),
            progress=progress,
        )

    def again(self, who: Principal, run: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a recorded run gives now: contract and account anew, the finding as it was.

        Raises:
            BudgetExceededError, DeniedError, ContractError: as of `verify`.
        """
        standing = self._permitted(who)
        if not _allowed(standing)(run["verifier"]):
            raise DeniedError(f"'verify.{run['verifier']}' is denied to the agent {who.agent!r}")
        try:
            held = self._kernel.reserve(who, run["cost"], operation=new_id())
        except BudgetExceededError as error:
            return {"refused": error.account}
        self._kernel.ledger.commit(held)
        return dict(run["found"])

    def _permitted(self, who: Principal) -> Standing:
        standing = self._kernel.acting(who)
        self._kernel.recordings.standing(standing)
        if not _allowed(standing)(""):
            raise DeniedError(
                f"'verify' is denied to the agent {who.agent!r}",
                hint="tell the user that you cannot check it",
            )
        return standing

    def _around(self, standing: Standing) -> Any:
        @contextmanager
        def around(claim: Claim, verifier: Verifier) -> Iterator[Callable[[Finding], None]]:
            with self._paid(standing, claim, verifier) as tell:
                yield tell

        return around

    @contextmanager
    def _paid(
        self, standing: Standing, claim: Claim, verifier: Verifier
    ) -> Iterator[Callable[[Finding], None]]:
        kernel, who, run = self._kernel, standing.principal, new_id()
        manifest = standing.mandate.manifest
        fact: dict[str, Any] = {
            "id": run,
            "verifier": verifier.name,
            "type": claim.type,
            "claim": self._digest(who, claim),
            "risk": claim.risk,
            "parent": claim.operation or None,
            "policy": manifest.hash if manifest else "",
        }
        try:
            held = kernel.reserve(who, dict(verifier.cost), operation=run)
        except BudgetExceededError as error:
            refused = {**fact, "phase": "refused", "account": error.account}
            call = _call(run, claim, verifier, {}, {"refused": error.account})
            kernel.record(who, EVENT, refused, call=call)
            raise
        fact["reservation"] = held.id
        found: list[Finding] = []
        try:
            kernel.record(who, EVENT, {**fact, "phase": "intent"})
            started_ns = kernel.clock.now_ns()
            yield found.append
            took_ms = (kernel.clock.now_ns() - started_ns) / 1e6
            outcome = _outcome(found)
            told = {"verdict": outcome["verdict"], "confidence": outcome["confidence"]}
            call = _call(run, claim, verifier, told, told)
            fact |= {**outcome, "duration_ms": round(took_ms, 3)}
            kernel.record(who, EVENT, fact, call=call)
        except BaseException:
            kernel.ledger.refund(held)
            raise
        kernel.ledger.commit(held)

    def _digest(self, who: Principal, claim: Claim) -> str:
        said = canonical_json([claim.type, claim.text, _plain(claim.content), claim.sources])
        return self._kernel.keys_of(who.tenant).digest(said)


def _allowed(standing: Standing) -> Callable[[str], bool]:
    """Return whether contract and policies let a verifier run without a person's consent."""
    bounds = standing.mandate.bounds

    def allowed(name: str) -> bool:
        label = f"verify.{name}" if name else "verify"
        return label not in bounds.security.deny and not bounds.needs_consent(label)

    return allowed


def _call(
    run: str, claim: Claim, verifier: Verifier, found: dict[str, Any], answer: dict[str, Any]
) -> Call:
    """Return what a recording keeps of a run, so that it can be made again without the verifier."""
    asked = {"type": claim.type, "text": claim.text, "risk": claim.risk}
    kept = {"verifier": verifier.name, "cost": dict(verifier.cost), "claim": asked, "found": found}
    return Call(EVENT, kept, answer, operation=run)


def _outcome(found: Sequence[Finding]) -> dict[str, Any]:
    verdict = found[0].verdict.value if found else "undecided"
    confidence = found[0].confidence if found else 0.0
    return {"phase": "outcome", "verdict": verdict, "confidence": round(confidence, 6)}


def _plain(content: dict[str, Any]) -> Any:
    """Return structured content as what JSON can hold."""
    try:
        canonical_json(content)
    except (TypeError, ValueError):
        return repr(content)
    return content


class AgentSources:
    """The sources of one agent: its files by path, and paged-out texts by their handles.

    Files come from the agent's own branch, as the agent may see it; texts from `context_read`,
    where a client is given. Names that are neither are looked for in `beside`.
    """

    def __init__(
        self,
        kernel: Kernel,
        who: Principal,
        *,
        client: Client | None = None,
        beside: SourceFinder | None = None,
    ) -> None:
        self._kernel = kernel
        self._who = who
        self._client = client
        self._beside = beside

    def find(self, name: str) -> Source | None:
        """Return the source of that name, or None."""
        found = self._beside.find(name) if self._beside else None
        if found is None and name.startswith("/"):
            found = self._file(name)
        if found is None and self._client is not None:
            found = self._handle(self._client, name)
        return found

    def _file(self, path: str) -> Source | None:
        if self._kernel.known_agent_fs(self._who) is None:
            return None
        files = self._kernel.agent_files(self._who)
        try:
            if files.stat(path).size > _MAX_SOURCE_BYTES:
                return None
            return Source(path, files.read(path).decode("utf-8", "replace"))
        except OSError:
            return None

    def _handle(self, client: Client, handle: str) -> Source | None:
        parts: list[str] = []
        offset: int | None = 0
        while offset is not None and offset < _MAX_SOURCE_BYTES:
            arguments = {"handle": handle, "offset": offset, "limit": _PART}
            try:
                answer = client.call("context_read", arguments)
            except FmosError:
                return None
            parts.append(str(answer["text"]))
            offset = answer.get("next_offset")
        return Source(handle, "".join(parts))
