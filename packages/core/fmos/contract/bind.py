"""Binds a document to what is on offer, in five steps, and seals the result.

1. *normalise*: the layers are merged and the document becomes one shape, whatever was written.
2. *constraints*: of each dimension, what `must` leaves; `prefer` picks among it.
3. *upgrades* (smooth, flexible): of a range the highest version, with canaries and returns.
4. *substitutions* (flexible): `allow_fallbacks` whose condition holds. One that would break another
   `must`, or go beyond what the layers allow, is not taken.
5. *seal*: an immutable manifest with a hash.

The same inputs give the same manifest; nothing is read but the arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from fmos.contract.attempts import Attempt, attempts, check_words
from fmos.contract.binding_document import BindingDocument, Fallback
from fmos.contract.catalogue import Catalogue
from fmos.contract.layers import Merged, merge
from fmos.contract.limits import COMPUTE, exact_limits
from fmos.contract.manifest import Choice, Conditions, Manifest, Mode, Step, policy_digests, seal
from fmos.contract.model import AgentContract
from fmos.contract.policy import Policy
from fmos.contract.requirements import Requirements, normalise
from fmos.contract.selection import ALL_OF, Candidate, Market, choose_word
from fmos.contract.shares import in_share
from fmos.contract.versions import parse_wanted
from fmos.contract.workflow import Workflow
from fmos.errors import BindingError, Unmet
from fmos.ledger.model import RESOURCES


def bind(
    document: AgentContract | BindingDocument,
    *,
    catalogue: Catalogue | None,
    mode: Mode,
    policies: Sequence[Policy] = (),
    conditions: Conditions | None = None,
    session: str = "",
    contract: AgentContract | None = None,
) -> Manifest:
    """Bind a contract or binding document to a catalogue and return the sealed manifest.

    Without a catalogue, what the document names is taken and the manifest says `unchecked`.
    `contract` is the agent's own one, which a binding document never goes beyond. `session`
    decides about canaries; without one, none is tried.

    Raises:
        BindingError: if a hard requirement cannot be met; it lists all of them.
        ContractError: if a range of versions in the document is not one.
    """
    conditions = conditions or Conditions()
    base = _base(document, contract)
    merged = merge(base, policies)
    plain = isinstance(document, AgentContract)
    asked = normalise(merged.contract if plain else document)
    check_words(asked)
    if merged.refusals:
        raise _refused_by_layers(asked.agent, mode, merged)
    market = Market(
        catalogue,
        mode,
        conditions,
        refuses=lambda dimension, label: _refused(merged.contract, dimension, label),
        tries=lambda candidate: _in_share(candidate, asked.agent, session),
    )
    tried = list(attempts(document, asked, market))
    best = next((each for each in tried if not each.unmet), None)
    if best is None:
        raise _refusal(asked.agent, mode, min(tried, key=lambda each: len(each.unmet)))
    own = () if contract is None else (f"contract:{contract.digest}",)
    return _sealed(best, tried, merged, market, policies, own, plain=plain)


def bind_workflow(
    workflow: Workflow,
    *,
    catalogue: Catalogue | None,
    mode: Mode | None = None,
    policies: Sequence[Policy] = (),
    conditions: Conditions | None = None,
    session: str = "",
) -> dict[str, Manifest]:
    """Bind each step of a workflow and return step id to manifest.

    `mode` is for the steps that name none; without it they are bound strictly. A step's own `bind`
    always counts.

    Raises:
        BindingError: if a step cannot be bound; it names the step.
    """
    bound: dict[str, Manifest] = {}
    for step in workflow.steps:
        try:
            bound[step.id] = bind(
                workflow.contract_for(step.id),
                catalogue=catalogue,
                mode=step.bind if mode is None or "bind" in step.model_fields_set else mode,
                policies=policies,
                conditions=conditions,
                session=session,
            )
        except BindingError as error:
            message = str(error).removesuffix(f"; {error.hint}")
            raise BindingError(
                f"step {step.id!r} of {workflow.workflow!r}: {message}",
                hint=error.hint,
                unmet=error.unmet,
            ) from error
    return bound


def _base(
    document: AgentContract | BindingDocument, contract: AgentContract | None
) -> AgentContract:
    """Return the contract that the layers narrow: the document's own, or one of what it names."""
    if isinstance(document, AgentContract):
        return document
    asked = normalise(document)
    fields = (
        _plain_contract(document)
        if contract is None
        else contract.model_dump(by_alias=True, exclude_unset=True)
    )
    own = fields.get("budgets", {})
    for name in RESOURCES:
        amounts = [each for each in (asked.limits.get(name), own.get(name)) if each is not None]
        if amounts:
            fields["budgets"] = {**fields.get("budgets", {}), name: min(amounts)}
    compute = {name: document.must[name][0] for name in COMPUTE if name in document.must}
    if compute:
        fields["compute"] = {**fields.get("compute", {}), **compute}
    return AgentContract.model_validate({**fields, "class": document.class_})


def _plain_contract(document: BindingDocument) -> dict[str, Any]:
    return {
        "apiVersion": document.apiVersion,
        "kind": "AgentContract",
        "name": document.agent,
        "capabilities": [*_named(document, "capabilities"), *_named(document, "tools")],
    }


def _named(document: BindingDocument, dimension: str) -> tuple[str, ...]:
    asked = (*document.must.get(dimension, ()), *document.prefer.get(dimension, ()))
    return tuple(dict.fromkeys(asked))


def _refused(contract: AgentContract, dimension: str, label: str) -> str:
    """Say what the effective contract has against a value; empty: nothing."""
    if dimension == "model" and not contract.modelPolicy.allows(label):
        return "not allowed by the contract and its layers"
    if dimension in ALL_OF and not contract.grants(label) and not _ranged(contract, label):
        return "not granted by the contract and its layers"
    return ""


def _ranged(contract: AgentContract, label: str) -> bool:
    """Return whether a capability is a version within a range that the contract grants."""
    from_range = (name for name in contract.capabilities if ".." in name and contract.grants(name))
    return any(parse_wanted(name).admits(parse_wanted(label).low) for name in from_range)


def _in_share(candidate: Candidate, agent: str, session: str) -> bool:
    """Return whether this session is among those that get a canary; without a session, none is."""
    if candidate.share is None:
        return False
    return in_share(candidate.label, candidate.share, agent=agent, session=session)


def _sealed(
    attempt: Attempt,
    tried: Sequence[Attempt],
    merged: Merged,
    market: Market,
    policies: Sequence[Policy],
    own: tuple[str, ...],
    *,
    plain: bool,
) -> Manifest:
    contract = _narrowed(merged.contract, attempt, market, plain=plain)
    catalogue = market.catalogue
    tokens = contract.modelPolicy.max_context_tokens
    context = {} if tokens is None else {"max_context_tokens": tokens}
    limits = {**exact_limits(attempt.asked), **contract.budgets.limits(), **context}
    trial = {pick.dimension: pick.returns_to for pick in attempt.picks if pick.returns_to}
    return seal(
        contract,
        choices=[*merged.why, *_choices(attempt, tokens)],
        policies=policy_digests(policies),
        mode=market.mode,
        chosen={pick.dimension: pick.value for pick in attempt.picks},
        limits=limits,
        notes=(*attempt.notes, *_unused(attempt, tried, market)),
        canary=bool(trial),
        returns_to=trial,
        conditions=market.conditions,
        catalogue=catalogue.digest if catalogue else "",
        sources=(tried[-1].asked.source, *own),
    )


def _narrowed(
    contract: AgentContract, attempt: Attempt, market: Market, *, plain: bool
) -> AgentContract:
    """Return the effective contract with what was chosen in the place of what was asked.

    A contract that allows any model and prefers one goes on allowing any.
    """
    labels = {pick.dimension: pick for pick in attempt.picks}
    fields = contract.model_dump(by_alias=True)
    granted = [label for name in ALL_OF if name in labels for label in labels[name].labels]
    fields["capabilities"] = tuple(dict.fromkeys(granted))
    model = labels.get("model")
    if model is not None and not (plain and "model" not in attempt.asked.must):
        policy = fields["modelPolicy"]
        allowed = _resolved(attempt.asked, market) if plain else model.labels
        policy["allow"] = tuple(dict.fromkeys([*model.labels, *allowed]))
        policy["prefer"] = tuple(name for name in policy["prefer"] if name in policy["allow"])
        bounds = [policy["max_context_tokens"], attempt.asked.limits.get("max_context_tokens")]
        bounds += [each.offer.max_context_tokens for each in model.candidates if each.offer]
        policy["max_context_tokens"] = min((n for n in bounds if n is not None), default=None)
    return AgentContract.model_validate(fields)


def _resolved(asked: Requirements, market: Market) -> Iterable[str]:
    """Return every model that the contract's allow-list stands for here, one per word."""
    picks = (choose_word(market, "model", word) for word in asked.must.get("model", ()))
    return [label for pick in picks if pick is not None for label in pick.labels]


def _choices(attempt: Attempt, tokens: int | None) -> Iterator[Choice]:
    for pick in attempt.picks:
        value = ", ".join(pick.labels)
        yield _choice(pick.dimension, value, pick.step, pick.why, pick.alternatives)
    for name, limit in attempt.asked.limits.items():
        lower = name == "max_context_tokens" and tokens is not None and tokens < limit
        why = "the chosen model takes no more" if lower else "a number that the document names"
        yield _choice(name, str(tokens if lower else limit), "seal", why)


def _choice(
    field: str, value: str, step: Step, why: str, alternatives: tuple[str, ...] = ()
) -> Choice:
    return Choice(field=field, value=value, step=step, why=why, alternatives=alternatives)


def _unused(attempt: Attempt, tried: Sequence[Attempt], market: Market) -> Iterator[str]:
    """Say which fallbacks were not used although their condition holds, and why."""
    stated = market.conditions.when
    declared = {fallback.when for fallback in attempt.asked.fallbacks}
    for name in stated:
        if name not in declared:
            yield f"no fallback is declared for {name!r}"
    for fallback in attempt.asked.fallbacks:
        if fallback.when in stated and fallback not in attempt.used:
            values = ", ".join(f"{k}: {_text(v)}" for k, v in fallback.substitute.items())
            reason = _why_unused(fallback, tried, market.mode)
            yield f"the fallback for {fallback.when!r} ({values}) was not used: {reason}"


def _text(value: bool | str) -> str:
    return str(value).lower() if isinstance(value, bool) else value


def _why_unused(fallback: Fallback, tried: Sequence[Attempt], mode: Mode) -> str:
    alone = next((each for each in tried if each.used == (fallback,)), None)
    if alone is None:
        return f"{mode} binding uses none"
    if alone.unmet:
        return "; ".join(_sentence(unmet) for unmet in alone.unmet)
    return "one before it in the document was"


def _refusal(agent: str, mode: Mode, attempt: Attempt) -> BindingError:
    sentences = "; ".join(_sentence(unmet) for unmet in attempt.unmet)
    near = [unmet.nearest for unmet in attempt.unmet if unmet.nearest]
    hint = "offer it in the catalogue, or ask for something that is there"
    return BindingError(
        f"{agent!r} cannot be bound ({mode}): {sentences}",
        hint=f"{hint}; nearest: {', '.join(near)}" if near else hint,
        unmet=attempt.unmet,
    )


def _refused_by_layers(agent: str, mode: Mode, merged: Merged) -> BindingError:
    unmet = tuple(Unmet("class", (), (), "", refusal) for refusal in merged.refusals)
    return BindingError(
        f"{agent!r} cannot be bound ({mode}): {'; '.join(merged.refusals)}",
        hint="ask for what the layers allow, or have the policy changed",
        unmet=unmet,
    )


def _sentence(unmet: Unmet) -> str:
    wanted = " or ".join(unmet.wanted) if unmet.dimension not in ALL_OF else ", ".join(unmet.wanted)
    there = ", ".join(unmet.available[:8]) or "nothing"
    there += ", ..." if len(unmet.available) > 8 else ""
    why = f" ({unmet.why})" if unmet.why else ""
    return f"{unmet.dimension} must be {wanted or 'allowed'}{why}, on offer: {there}"
