"""The ways to meet a document: steps two to four of binding, for each set of fallbacks and places.

Every way is tried on its own, so that what is on offer less can never make more possible.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product

from fmos.contract.binding_document import BindingDocument, Fallback
from fmos.contract.catalogue import Catalogue
from fmos.contract.limits import COMPUTE
from fmos.contract.model import AgentContract
from fmos.contract.requirements import Requirements, normalise
from fmos.contract.selection import Market, Pick, choose, choose_word, plain_place
from fmos.contract.versions import parse_wanted
from fmos.errors import ArgumentError, ContractError, Unmet

#: Dimensions that narrow what may be chosen for all others.
_PLACES = ("placement", "residency")
#: Every combination of the fallbacks that may be used is looked at: 2^8.
MAX_FALLBACKS = 8


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to meet the document: which fallbacks were used, and what came of it."""

    asked: Requirements
    used: tuple[Fallback, ...]
    picks: tuple[Pick, ...]
    unmet: tuple[Unmet, ...]
    notes: tuple[str, ...]


def attempts(
    document: AgentContract | BindingDocument, asked: Requirements, market: Market
) -> Iterator[Attempt]:
    """Yield the ways to meet the document, the most wanted first."""
    for used in _fallback_sets(asked, market):
        words = asked if not used else _substituted(document, used)
        check_words(words)
        for place, residency in product(
            _alternatives(words, _PLACES[0]), _alternatives(words, _PLACES[1])
        ):
            there = replace(
                market,
                place=plain_place(place),
                residency=residency,
                deadline_ms=words.limits.get("deadline_ms"),
            )
            yield _attempt(words, used, there, {"placement": place, "residency": residency})


def check_words(asked: Requirements) -> None:
    """Refuse a range of versions that is none.

    Raises:
        ContractError: naming the dimension and the range.
    """
    for part in (asked.must, asked.prefer):
        for dimension, words in part.items():
            for word in words:
                try:
                    parse_wanted(word)
                except ArgumentError as error:
                    raise ContractError(f"{asked.agent!r}, {dimension}: {error}") from error


def _fallback_sets(asked: Requirements, market: Market) -> Iterator[tuple[Fallback, ...]]:
    """Yield which fallbacks to use: as many as can hold together, earlier ones first; then none."""
    holding = [each for each in asked.fallbacks if each.when in market.conditions.when]
    active = holding if market.mode == "flexible" else []
    if len(active) > MAX_FALLBACKS:
        raise ArgumentError(
            f"{len(active)} fallbacks of {asked.agent!r} hold at once",
            hint=f"at most {MAX_FALLBACKS} can be weighed against each other",
        )
    for taken in product((True, False), repeat=len(active)):
        used = tuple(each for each, yes in zip(active, taken, strict=True) if yes)
        dimensions = [dimension for each in used for dimension in each.substitute]
        if len(dimensions) == len(set(dimensions)):
            yield used


def _substituted(
    document: AgentContract | BindingDocument, used: tuple[Fallback, ...]
) -> Requirements:
    """Return the requirements with the substitutes in the place of what they stand in for."""
    assert isinstance(document, BindingDocument)
    values = {
        dimension: (str(value).lower() if isinstance(value, bool) else value,)
        for fallback in used
        for dimension, value in fallback.substitute.items()
    }
    prefer = {name: words for name, words in document.prefer.items() if name not in values}
    return normalise(
        document.model_copy(update={"must": {**document.must, **values}, "prefer": prefer})
    )


def _alternatives(asked: Requirements, dimension: str) -> tuple[str, ...]:
    """Return the values of a dimension that narrows the others, the preferred ones first."""
    must, prefer = asked.must.get(dimension), asked.prefer.get(dimension, ())
    if must is None:
        return (*prefer, "")
    return (*(value for value in prefer if value in must), *(v for v in must if v not in prefer))


def _attempt(
    asked: Requirements, used: tuple[Fallback, ...], market: Market, places: Mapping[str, str]
) -> Attempt:
    picks: list[Pick] = []
    unmet: list[Unmet] = []
    notes: list[str] = []
    for dimension in dict.fromkeys([*asked.must, *asked.prefer]):
        if dimension in _PLACES:
            found, said = _choose_place(market, asked, dimension, places[dimension])
        elif _is_limit(asked, market, dimension):
            continue
        else:
            must, prefer = asked.must.get(dimension), asked.prefer.get(dimension, ())
            found, said = choose(market, dimension, must, prefer)
        notes += said
        if isinstance(found, Unmet):
            unmet.append(found)
        elif found is not None:
            picks.append(_marked(found, used))
    return Attempt(asked, used, tuple(picks), tuple(unmet), tuple(notes))


def _is_limit(asked: Requirements, market: Market, dimension: str) -> bool:
    listed = market.catalogue is not None and market.catalogue.offers(dimension) is not None
    return (dimension in asked.limits or dimension in COMPUTE) and not listed


def _choose_place(
    market: Market, asked: Requirements, dimension: str, place: str
) -> tuple[Pick | Unmet | None, list[str]]:
    """Return the place if anything is there; what else is chosen is checked against it."""
    must, prefer = asked.must.get(dimension), asked.prefer.get(dimension, ())
    note = [f"preferred {dimension} {', '.join(prefer)} not taken"] if prefer else []
    if not place:
        return None, note
    known = None if market.catalogue is None else _places(market.catalogue, dimension)
    if known is not None and plain_place(place) not in map(plain_place, known):
        return Unmet(dimension, (place,), tuple(known), "", "nothing on offer is there"), []
    why = f"each choice that declares a {dimension} is there"
    why = "unchecked (there is no catalogue): named" if known is None else why
    from_must = tuple(other for other in must or () if other != place)
    pick = choose_word(replace(market, catalogue=None), dimension, place)
    if pick is None:
        return Unmet(dimension, (place,), (), "", f"{place} is unhealthy"), []
    taken = replace(pick, why=why, alternatives=from_must)
    return taken, [] if place in prefer else note


def _places(catalogue: Catalogue, dimension: str) -> list[str]:
    own = [offer.label for offer in catalogue.offers(dimension) or () if offer.healthy]
    said = [
        place
        for offer in catalogue.all_offers()
        for place in (offer.placement if dimension == "placement" else offer.residency)
        if offer.healthy
    ]
    return list(dict.fromkeys(own + said))


def _marked(pick: Pick, used: tuple[Fallback, ...]) -> Pick:
    """Return the pick as a substitution if a fallback named it."""
    for fallback in used:
        if pick.dimension in fallback.substitute:
            why = f"{fallback.when} holds, and the document's fallback names it; {pick.why}"
            return replace(pick, step="substitutions", why=why)
    return pick
