"""A kernel beside the home, for running a session again: it reads the home and writes elsewhere.

It says that its home is the real one, because rules and trap tables name that folder, and uses the
home's keys; its kernel.db and its volume are files of a temporary folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from fmos.clock import Uptime
from fmos.config import Home
from fmos.contract.layers import Merged
from fmos.contract.manifest import Manifest
from fmos.contract.model import AgentContract
from fmos.errors import ContractError
from fmos.ledger.accounts import Account, AccountKind
from fmos.ledger.windows import Window
from fmos.replay.recording import Recordings
from fmos.runtime.agents import Descent
from fmos.runtime.kernel import Kernel
from fmos.runtime.limits import DeclaredLimits
from fmos.runtime.mandates import Mandate, Mandates
from fmos.runtime.standing import Standing, Standings
from fmos.runtime.states import AgentState, AgentStates, StateRow
from fmos.settings import ReplaySettings, TelemetrySettings
from fmos.types import Principal

_LONG_AGO_NS = 400 * 86_400 * 1_000_000_000
_FOR_EVER_S = 10 * 365 * 86_400


@dataclass(frozen=True, slots=True)
class ScratchHome(Home):
    """The real home's path, contracts, policies and keys, with files of its own to write to."""

    folder: Path = Path()

    @property
    def kernel_db(self) -> Path:
        """A database of its own."""
        return self.folder / "kernel.db"

    @property
    def socket(self) -> Path:
        """No daemon's socket."""
        return self.folder / "fmos.sock"

    def volume(self, tenant: str) -> Path:
        """Return a volume of its own."""
        return self.folder / f"{tenant}.afs"


class ReplayClock:
    """The time of what is run again, as it was recorded."""

    def __init__(self, now_ns: int) -> None:
        self._start_ns = self._now_ns = now_ns

    def now_ns(self) -> int:
        """Return the recorded time of the current call."""
        return self._now_ns

    def uptime(self) -> Uptime:
        """Return how long the session has run; time that went back counts as none."""
        return Uptime("replay", max(0, self._now_ns - self._start_ns))

    def move(self, now_ns: int) -> None:
        """Set the time."""
        self._now_ns = now_ns


class RecordedMandates(Mandates):
    """What bound the agents when the session ran, in place of what binds them now."""

    def __init__(self) -> None:
        self._by_agent: dict[str, Mandate] = {}
        self._error = ""

    def set(self, value: Mapping[str, Any]) -> None:
        """Take over a recorded premise: mandates by agent, or why there were none."""
        self._error = str(value.get("error", ""))
        if not self._error:
            self._by_agent = {agent: _mandate(kept) for agent, kept in value.items()}

    def of(self, principal: Principal, descent: Descent) -> Mandate:
        """Return what bound a principal.

        Raises:
            ContractError: if a document could not be used then, or none is recorded.
        """
        mandate = self._by_agent.get(principal.agent_key)
        if self._error or mandate is None:
            raise ContractError(self._error or f"no contract of {principal.agent!r} is recorded")
        return mandate


class ScratchKernel(Kernel):
    """A kernel that records nothing and tells nobody. `mandates` is None for the current ones."""

    def __init__(self, home: ScratchHome, clock: ReplayClock, mandates: Mandates | None) -> None:
        super().__init__(home, clock)
        quiet = {"replay": ReplaySettings(record=False), "telemetry": TelemetrySettings()}
        self.settings = self.settings.model_copy(update=quiet)
        self.recordings = Recordings(self)
        self.today = self._standings
        if mandates is not None:
            self._standings = Standings(self.agents, mandates)

    def descend(self, family: list[Principal], accounts: list[str | None]) -> None:
        """Register an agent and those that it was forked from, nearest first."""
        above = [*family[1:], None]
        for who, parent, account in zip(family, above, accounts, strict=True):
            self.agents.register(who, parent=parent, account=account)

    def set_state(self, who: Principal, state: str, now_ns: int) -> None:
        """Let an agent run, or not, as a person had said."""
        said = ("replay", "", "replay", "agent.state")
        row = StateRow(who.tenant, who.agent_key, AgentState(state), now_ns, *said, {}, noted=True)
        AgentStates(self.database).put(row)

    def endow(self, standing: Standing, balances: list[dict[str, Any]], clock: ReplayClock) -> None:
        """Give the accounts what they had spent, reserved and been limited to by hand."""
        start_ns = clock.now_ns()
        windowed = {
            (each["account"], each["resource"]): each["spent"]
            for each in sorted(balances, key=lambda each: each["spent"])
            if each["window"] != "total"
        }
        totals = {
            (each["account"], each["resource"]): each
            for each in balances
            if each["window"] == "total"
        }
        clock.move(start_ns - _LONG_AGO_NS)
        self._spend(
            standing.account, {k: v["spent"] - windowed.get(k, 0) for k, v in totals.items()}
        )
        clock.move(start_ns)
        self._limit(standing, balances)
        self.apply_limits(standing)
        self._spend(standing.account, windowed)
        self._reserve(standing.account, {k: v["reserved"] for k, v in totals.items()})

    def spent_by_others(self, account: Account, balances: list[dict[str, Any]]) -> None:
        """Charge the accounts above with what other sessions have spent of them meanwhile."""
        now = {
            (each.account, each.resource): each.spent
            for each in self.ledger.status(account)
            if each.window == "total"
        }
        more = {
            (each["account"], each["resource"]): each["spent"]
            - now.get((each["account"], each["resource"]), 0)
            for each in balances
            if each["window"] == "total" and each["account"] != str(account)
        }
        self._spend(account, more)

    def _spend(self, account: Account, amounts: Mapping[tuple[str, str], int]) -> None:
        for path, own in _own(account, amounts):
            self.ledger.charge(path, own)

    def _reserve(self, account: Account, amounts: Mapping[tuple[str, str], int]) -> None:
        for number, (path, own) in enumerate(_own(account, amounts)):
            key = f"before-{number}"
            self.ledger.reserve(path, own, operation=key, ttl_s=_FOR_EVER_S, owner=None)

    def _limit(self, standing: Standing, balances: list[dict[str, Any]]) -> None:
        """Set again the limits that no document declares: a person's."""
        declared: dict[tuple[str, str, str], int] = {}
        for each in (standing, *standing.above):
            for kind, limits in each.mandate.limits.items():
                account = each.account.nearest(kind)
                for (resource, window), amount in limits.items():
                    declared[str(account), resource, window] = amount
        for each in balances:
            place = (each["account"], each["resource"], each["window"])
            if each["limit"] is not None and declared.get(place) != each["limit"]:
                self.ledger.set_limit(place[0], place[1], each["limit"], cast("Window", place[2]))


def _own(
    account: Account, amounts: Mapping[tuple[str, str], int]
) -> list[tuple[Account, dict[str, int]]]:
    """Return what each account of a path has beyond the one below it, from the lowest up."""
    found: list[tuple[Account, dict[str, int]]] = []
    below: dict[str, int] = {}
    for path in reversed(account.path):
        here = {name: amount for (at, name), amount in amounts.items() if at == str(path)}
        own = {name: amount - below.get(name, 0) for name, amount in here.items()}
        positive = {name: amount for name, amount in own.items() if amount > 0}
        if positive:
            found.append((path, positive))
        below = {name: max(here.get(name, 0), below.get(name, 0)) for name in {*here, *below}}
    return found


def _mandate(kept: Mapping[str, Any]) -> Mandate:
    manifest = Manifest.model_validate(kept["manifest"]) if "manifest" in kept else None
    bounds = (
        manifest.effective if manifest else AgentContract.model_validate(kept.get("bounds", {}))
    )
    limits: dict[AccountKind, DeclaredLimits] = {
        cast("AccountKind", kind): {(name, window): amount for name, window, amount in declared}
        for kind, declared in kept["limits"].items()
    }
    contract = manifest.effective if manifest else None
    wants = str(kept["wants_contract"])
    delegated = (
        str(kept.get("refused", "")),
        tuple(tuple(scope) for scope in kept.get("tools", ())),
        int(kept.get("ends_ns", 0)),
    )
    return Mandate(contract, manifest, bounds, limits, Merged(contract=bounds), wants, *delegated)
