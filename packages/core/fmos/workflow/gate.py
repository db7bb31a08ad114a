"""What a step may do: its contract within its agent's and every layer, sealed before it runs."""

from __future__ import annotations

from fmos.contract.admission import admit
from fmos.contract.bind import bind
from fmos.contract.catalogue import FILE_NAME, Catalogue, load_catalogue
from fmos.contract.layers import attenuate, merge
from fmos.contract.manifest import Manifest
from fmos.contract.model import AgentContract
from fmos.contract.policy import Policy
from fmos.contract.workflow import Step, Workflow
from fmos.errors import AdmissionError, BindingError, FmosError
from fmos.ledger.accounts import Account
from fmos.ledger.windows import Window
from fmos.runtime.kernel import Kernel
from fmos.types import Principal

#: Who sets the limits of a step's account.
_SOURCE = "workflow"


class Gate:
    """The grants of one home's workflow steps."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def bind(self, workflow: Workflow, step: Step, principal: Principal) -> Manifest:
        """Bind a step in its mode and admit it to this host.

        An agent that has a contract in the home has no more than both; the step's alone counts for
        one that has none, within the policies.

        Raises:
            BindingError, AdmissionError: naming the step.
            ContractError: if a document that binds the agent is broken.
        """
        catalogue = self._catalogue()
        asked = workflow.contract_for(step.id)
        own = self._kernel.contract(principal)
        policies = self._layers(principal, own or asked)
        try:
            manifest = bind(
                asked if own is None else attenuate(own, asked),
                catalogue=catalogue,
                mode=step.bind,
                policies=policies,
                session=principal.session,
            )
            self._require_contract(principal)
            admit(manifest, catalogue=catalogue, policies=policies).require()
        except BindingError as error:
            message = _of_step(workflow, step, error)
            raise BindingError(message, hint=error.hint, unmet=error.unmet) from error
        except AdmissionError as error:
            raise AdmissionError(_of_step(workflow, step, error), hint=error.hint) from error
        return manifest

    def now(self, principal: Principal, manifest: Manifest) -> AgentContract:
        """Return what a bound step may do now: a contract that was narrowed since counts.

        Raises:
            ContractError: if a document that binds the agent is broken.
        """
        own = self._kernel.contract(principal)
        contract = manifest.effective
        if own is not None:
            contract = attenuate(own, contract)
        return merge(contract, self._layers(principal, own or contract)).contract

    def account(self, principal: Principal, step: Step, contract: AgentContract) -> Account:
        """Return the step's account, with the limits of its budgets."""
        self._kernel.apply_limits(self._kernel.acting(principal))
        account = self._kernel.account(principal).child("step", step.id)
        self._kernel.ledger.apply_limits(account, _limits(contract), source=_SOURCE)
        return account

    def require_budget(self, account: Account, contract: AgentContract) -> None:
        """Refuse a step that has nothing left of something that it has a budget of.

        Raises:
            BudgetExceededError: naming the account.
        """
        needed = {name: 1 for name, _ in _limits(contract)}
        if needed:
            self._kernel.ledger.charge(account, {}, needed=needed)

    def _require_contract(self, principal: Principal) -> None:
        wanted_by = self._kernel.mandate(principal).wants_contract
        if wanted_by:
            raise AdmissionError(
                f"the {wanted_by} policy wants a contract of {principal.agent!r}, which has none",
                hint=f"let a person put one at contracts/{principal.agent}.yaml",
            )

    def _layers(self, principal: Principal, contract: AgentContract) -> tuple[Policy, ...]:
        return self._kernel.policies.for_principal(principal, contract)

    def _catalogue(self) -> Catalogue | None:
        path = self._kernel.home.path / FILE_NAME
        return load_catalogue(path) if path.exists() else None


def consents(contract: AgentContract) -> tuple[str, ...]:
    """Return the capabilities of a contract that a person must consent to."""
    return tuple(
        name
        for name in contract.capabilities
        if contract.grants(name) and contract.needs_consent(name)
    )


def _limits(contract: AgentContract) -> dict[tuple[str, Window], int]:
    budgets = contract.budgets
    found: dict[tuple[str, Window], int] = {
        (name, "total"): amount for name, amount in budgets.limits().items()
    }
    windows: tuple[Window, ...] = ("minute", "hour", "day", "month")
    for window in windows:
        limits = getattr(budgets, f"per_{window}").limits()
        found |= {(name, window): amount for name, amount in limits.items()}
    return found


def _of_step(workflow: Workflow, step: Step, error: FmosError) -> str:
    message = str(error).removesuffix(f"; {error.hint}") if error.hint else str(error)
    return f"step {step.id!r} of {workflow.workflow!r}: {message}"
