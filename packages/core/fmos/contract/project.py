"""What a project's own documents say: those in `.fmos/contracts`, `policies` and `policies/trust`.

They only ever narrow what the home allows. Whether they count at all is not decided here
(`fmos.runtime.trusted`): a cloned repository or an agent that writes files must never install its
own policy. How they are read is in `fmos.contract.projectfolder`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fmos.contract.layers import Choice, Merged, attenuate, merge
from fmos.contract.model import WINDOWS, AgentContract, Limits, is_open
from fmos.contract.parse import load_as, read_trees
from fmos.contract.policy import Policy
from fmos.contract.positions import Loc, place_of
from fmos.contract.projectfolder import CONTRACTS, FOLDER, TRUST, ProjectFile, ProjectFolder
from fmos.contract.trust_policy import TrustPolicy
from fmos.errors import ContractError
from fmos.types import Principal

_SHARED = ("application", "tenant", "organisation")
_D = TypeVar("_D", AgentContract, Policy, TrustPolicy)


class ProjectPolicy(Policy):
    """A project's policy: its `layer` says whom it binds; its suggestions come after all others."""

    @property
    def label(self) -> str:
        """The layer in words."""
        return f"project ({super().label})"


@dataclass(frozen=True, slots=True)
class ProjectDocuments:
    """What a project says: policies, contracts by the agent that they are of, and rules."""

    policies: tuple[ProjectPolicy, ...] = ()
    contracts: Mapping[str, AgentContract] = field(default_factory=dict[str, AgentContract])
    rules: tuple[TrustPolicy, ...] = ()


def documents(folder: ProjectFolder) -> ProjectDocuments:
    """Return the documents of a folder as records.

    Raises:
        ContractError: if one is not valid, or says what a project cannot: it speaks for no
            administrator, limits no account that agents of other projects share, and allows
            nothing.
    """
    policies: list[ProjectPolicy] = []
    rules: list[TrustPolicy] = []
    contracts: dict[str, AgentContract] = {}
    for file in folder.files:
        source = f"{folder.path}/{file.path}"
        if file.path.startswith(f"{FOLDER}/{TRUST}/"):
            rules.append(_rules(file, source))
            continue
        if not file.path.startswith(f"{FOLDER}/{CONTRACTS}/"):
            policies.append(_policy(file, source))
            continue
        contract = _loaded(AgentContract, file, source)
        if contract.name in contracts:
            raise ContractError(
                f"{source}: a second contract of {contract.name!r} in this project",
                hint="remove one of them",
            )
        contracts[contract.name] = contract
    return ProjectDocuments(tuple(policies), contracts, tuple(rules))


def tightened(
    merged: Merged, said: ProjectDocuments, principal: Principal, lineage: Sequence[str] = ()
) -> Merged:
    """Return an effective contract within what a project says; what it has not, it does not get.

    A fork is within the project's contracts of its whole `lineage`, the agent ids it comes from.
    The project's suggestions fill in only what neither the contract nor any layer of the home says.
    """
    above = merged.contract
    names = dict.fromkeys((above.name, *lineage))
    within = [said.contracts[name] for name in names if name in said.contracts]
    for own in within:
        kept = {"name": above.name, "role": above.role}
        above = attenuate(above, own).model_copy(update=kept)
    roles = (principal.role, above.role)
    binding = [each for each in said.policies if each.binds(principal.tenant, roles)]
    inner = merge(above, binding)
    return Merged(
        contract=inner.contract,
        why=_explained(merged, inner, narrowed=bool(within)),
        accounts=merged.accounts,
        refusals=(*merged.refusals, *inner.refusals),
    )


def widening(folder: ProjectFolder, home: Callable[[str], AgentContract | None]) -> list[str]:
    """Return a sentence, with file and line, for each thing that would go beyond the home.

    Nothing of it would count; a person should know before trusting a folder that asks for it.

    Raises:
        ContractError: as of `documents`.
    """
    found: list[str] = []
    said = documents(folder)
    for file in folder.files:
        if file.path.startswith(f"{FOLDER}/{CONTRACTS}/"):
            contract = _loaded(AgentContract, file, f"{folder.path}/{file.path}")
            allowed = home(contract.name)
            found += (
                [] if allowed is None else _beyond(file, said.contracts[contract.name], allowed)
            )
    return found


def _beyond(file: ProjectFile, asked: AgentContract, allowed: AgentContract) -> Iterator[str]:
    """Yield what a project's contract asks for and the home's contract of the agent has not."""
    root = next(iter(read_trees(file.data.decode("utf-8-sig"), file.path))).root

    def at(loc: Loc, what: str) -> str:
        place = place_of(root, loc)
        return f"{file.path}:{place.line}:{place.column}: {what}"

    for index, name in enumerate(asked.capabilities):
        if name not in allowed.capabilities:
            what = f"{name!r} is not among the capabilities that the home grants {asked.name!r}"
            yield at(("capabilities", index), what)
    for index, name in enumerate(asked.modelPolicy.allow):
        if not is_open(name) and not allowed.modelPolicy.allows(name):
            what = f"the model {name!r} is not allowed to {asked.name!r} by the home"
            yield at(("modelPolicy", "allow", index), what)
    for loc, asks, has in _limits(asked, allowed):
        if asks is not None and has is not None and asks > has:
            yield at(loc, f"{'.'.join(map(str, loc))} is {asks}, more than the home's {has}")


def _limits(
    asked: AgentContract, allowed: AgentContract
) -> Iterator[tuple[Loc, int | None, int | None]]:
    sizes = (asked.modelPolicy.max_context_tokens, allowed.modelPolicy.max_context_tokens)
    yield ("modelPolicy", "max_context_tokens"), *sizes
    scopes: list[tuple[Loc, Limits, Limits]] = [(("budgets",), asked.budgets, allowed.budgets)]
    for name in ("agent", *WINDOWS):
        parts = (getattr(asked.budgets, name), getattr(allowed.budgets, name))
        scopes.append((("budgets", name), *parts))
    for loc, ours, theirs in scopes:
        for resource, amount in ours.limits().items():
            yield (*loc, resource), amount, theirs.limits().get(resource)


def describe(folder: ProjectFolder, file: ProjectFile) -> str:
    """Return in a few words what a document is and whom it binds."""
    source = f"{folder.path}/{file.path}"
    if file.path.startswith(f"{FOLDER}/{CONTRACTS}/"):
        return f"contract of the agent {_loaded(AgentContract, file, source).name!r}"
    if file.path.startswith(f"{FOLDER}/{TRUST}/"):
        rules = _rules(file, source)
        return f"{rules.label} of {len(rules.rules)} rules"
    policy = _policy(file, source)
    whom = {"tenant": f"of the tenant {policy.name!r}", "role": f"with the role {policy.name!r}"}
    return f"policy for every agent {whom.get(policy.layer, '')}".strip()


def demands(file: ProjectFile) -> Iterator[tuple[str, str]]:
    """Yield each field that a document sets and its value, as text, for a person to read."""
    root = next(iter(read_trees(file.data.decode("utf-8-sig"), file.path)))
    for name, value in _leaves("", root.values):
        if name.split(".")[0] not in ("apiVersion", "kind", "layer", "name"):
            yield name, value


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(f"{prefix}.{name}" if prefix else str(name), inner)
    elif isinstance(value, list):
        yield prefix, ", ".join(map(str, value)) or "nothing"
    else:
        yield prefix, str(value)


def _policy(file: ProjectFile, source: str) -> ProjectPolicy:
    policy = _loaded(Policy, file, source)
    if policy.layer == "admin":
        what = "a project cannot speak for the administrator"
        hint = "use `layer: platform`, which binds every agent that works here"
        raise _refused(file, source, ("layer",), what, hint)
    for account in _SHARED:
        if account in policy.must.budgets.model_fields_set:
            raise _refused(
                file, source, ("must", "budgets", account),
                f"a project cannot limit the account of the {account}, which other projects share",
                "limit sessions or agents: `budgets: { tokens: ..., agent: {...} }`",
            )  # fmt: skip
    fields = policy.model_dump(by_alias=True, exclude_unset=True)
    return ProjectPolicy.model_validate(fields)


def _rules(file: ProjectFile, source: str) -> TrustPolicy:
    rules = _loaded(TrustPolicy, file, source)
    for loc, what in rules.loosening():
        hint = "a project may only deny, ask, redact and rewrite; allow it in the home's policies"
        raise _refused(file, source, loc, what, hint)
    return rules


def _refused(file: ProjectFile, source: str, loc: Loc, what: str, hint: str) -> ContractError:
    root = next(iter(read_trees(file.data.decode("utf-8-sig"), source))).root
    place = place_of(root, loc)
    return ContractError(f"{source}:{place.line}:{place.column}: {what}", hint=hint)


def _loaded(model: type[_D], file: ProjectFile, source: str) -> _D:
    try:
        text = file.data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ContractError(
            f"{source} is not UTF-8 text (byte {error.start})", hint="save it as UTF-8"
        ) from error
    return load_as(model, text, source)


def _explained(merged: Merged, inner: Merged, *, narrowed: bool) -> tuple[Choice, ...]:
    """Say who decided each field: what a project changed, else as the home has it."""
    before = {each.field: each for each in merged.why}
    found: list[Choice] = []
    for choice in inner.why:
        known = before.get(choice.field)
        by_project = any(layer.startswith("project ") for layer in choice.layers)
        if by_project or known is None:
            found.append(choice)
        elif known.value == choice.value or not narrowed:
            found.append(known)
        else:
            found.append(choice.model_copy(update={"how": "must", "layers": ("project contract",)}))
    return tuple(found)
