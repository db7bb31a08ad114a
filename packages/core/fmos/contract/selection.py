"""Chooses what fills one dimension: steps two and three of binding, and the checks of step four.

An offer that does not say where it runs, or how fast, is taken at the document's word: what is not
declared is checked at admission, not guessed here.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from fmos.contract.catalogue import Catalogue, Offer
from fmos.contract.globs import is_glob, matches_name
from fmos.contract.manifest import Conditions, Mode, Step
from fmos.contract.versions import VersionedName, Wanted, parse_name, parse_wanted
from fmos.errors import Unmet

#: Dimensions of which every value is needed; of all others, one value is chosen.
ALL_OF = ("capabilities", "tools")
_CAPABILITY_DIMENSIONS = ("capabilities", "capability", "tools", "tool")
_FLAGS = ("true", "false")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One thing that a document's word may mean, and what speaks against it (empty: nothing)."""

    name: VersionedName
    offer: Offer | None
    objection: str = ""

    @property
    def label(self) -> str:
        """What a manifest calls it."""
        return self.name.text

    @property
    def share(self) -> float | None:
        """The part of the sessions that get it; None if it is not a canary."""
        canary = self.offer.canary if self.offer else None
        return canary.share if canary else None


@dataclass(frozen=True, slots=True)
class Pick:
    """What was chosen for a dimension, from which words, and why."""

    dimension: str
    candidates: tuple[Candidate, ...]
    step: Step
    why: str
    alternatives: tuple[str, ...] = ()
    returns_to: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names that were chosen."""
        return tuple(candidate.label for candidate in self.candidates)

    @property
    def value(self) -> str | tuple[str, ...]:
        """What the manifest says: a name, or all names of a dimension of which all are needed."""
        return self.labels if self.dimension in ALL_OF else self.labels[0]


@dataclass(frozen=True, slots=True)
class Market:
    """What may be chosen from, and under which rules.

    `refuses` is what the layers say against a value of a dimension; `tries` is whether this session
    is among those that get a canary.
    """

    catalogue: Catalogue | None
    mode: Mode
    conditions: Conditions
    refuses: Callable[[str, str], str]
    tries: Callable[[Candidate], bool]
    place: str = ""
    residency: str = ""
    deadline_ms: int | None = None

    def names(self, dimension: str) -> list[Candidate] | None:
        """Return all that a dimension offers, without objections; None: nothing can be checked."""
        if self.catalogue is None:
            return None
        if dimension not in ALL_OF:
            offers = self.catalogue.offers(dimension) or ()
            return [Candidate(offer.versioned, offer) for offer in offers]
        lists = [self.catalogue.offers(name) for name in _CAPABILITY_DIMENSIONS]
        if all(offers is None for offers in lists):
            return None
        own = [Candidate(offer.versioned, offer) for offers in lists for offer in offers or ()]
        return own + [
            Candidate(parse_name(name), offer)
            for offer in self.catalogue.all_offers()
            for name in offer.provides
        ]

    def candidates(self, dimension: str, text: str) -> list[Candidate]:
        """Return what the words of a document may mean here, the best first."""
        wanted = parse_wanted(text)
        offered = self.names(dimension)
        if offered is None:
            found = [Candidate(wanted.low, None)]
        else:
            found = [each for each in offered if self.admits(wanted, each)]
        if wanted.is_range:
            found.sort(key=lambda each: each.name.version, reverse=True)
        return [replace(each, objection=self._objection(dimension, each)) for each in found]

    def admits(self, wanted: Wanted, candidate: Candidate) -> bool:
        """Return whether the words of a document mean a candidate in this mode."""
        if is_glob(wanted.text):
            return wanted.text == candidate.label or matches_name([wanted.text], candidate.label)
        if self.mode == "strict":
            return wanted.low.identity == candidate.name.identity
        return wanted.admits(candidate.name)

    def _objection(self, dimension: str, candidate: Candidate) -> str:
        offer = candidate.offer
        ill = {parse_name(name).identity for name in self.conditions.unhealthy}
        if candidate.name.identity in ill or (offer and offer.versioned.identity in ill):
            return "unhealthy"
        refused = self.refuses(dimension, candidate.label)
        return refused or (self._mismatch(offer) if offer else "")

    def _mismatch(self, offer: Offer) -> str:
        """Say what an offer's declaration has against the hard constraints."""
        if not offer.healthy:
            return "unhealthy"
        if self.place and offer.placement and self.place not in map(plain_place, offer.placement):
            return f"runs at {' or '.join(offer.placement)}, not at {self.place}"
        if self.residency and offer.residency and self.residency not in offer.residency:
            return f"keeps data in {' or '.join(offer.residency)}, not in {self.residency}"
        if self.deadline_ms and offer.deadline_ms and offer.deadline_ms > self.deadline_ms:
            return f"answers in {offer.deadline_ms:g} ms, later than {self.deadline_ms} ms"
        missing = [name for name in offer.requires if not self._provided(name)]
        return f"requires {missing[0]}, which nothing offers" if missing else ""

    def _provided(self, name: str) -> bool:
        assert self.catalogue is not None
        wanted = parse_wanted(name)
        return any(
            offer.healthy and (wanted.admits(offer.versioned) or name in offer.provides)
            for offer in self.catalogue.all_offers()
        )


def plain_place(place: str) -> str:
    """Return `edge` for `edge-only`."""
    return place.removesuffix("-only")


def choose(
    market: Market, dimension: str, must: Sequence[str] | None, prefer: Sequence[str]
) -> tuple[Pick | Unmet | None, list[str]]:
    """Return what fills a dimension, or what stands in the way, and notes on unmet wishes.

    `must` None means that the document asks for nothing there; an empty one, that layers left none.
    """
    if dimension in ALL_OF:
        return _choose_all(market, dimension, must or (), prefer)
    wishes = [*(must or ()), *prefer]
    if wishes and all(wish in _FLAGS for wish in wishes):
        flag = Candidate(parse_name(wishes[0]), None)
        return Pick(dimension, (flag,), "constraints", "an obligation that the document names"), []
    for text in prefer:
        pick = choose_word(market, dimension, text, within=must)
        if pick is not None:
            return pick, []
    notes = [_unmet_wish(market, dimension, prefer, must)] if prefer else []
    for text in must or ():
        pick = choose_word(market, dimension, text)
        if pick is not None:
            return pick, notes
    return (None if must is None else _unmet(market, dimension, must)), notes


def choose_word(
    market: Market, dimension: str, text: str, *, within: Sequence[str] | None = None
) -> Pick | None:
    """Return the best candidate for one word of the document, or None if none is acceptable.

    `within` are words of which one must mean the candidate too.
    """
    found = market.candidates(dimension, text)
    bounds = None if within is None else [parse_wanted(word) for word in within]
    fit = [
        each
        for each in found
        if not each.objection
        and (bounds is None or any(market.admits(bound, each) for bound in bounds))
    ]
    if not fit:
        return None
    stable = [each for each in fit if each.share is None]
    ranged = parse_wanted(text).is_range and market.mode != "strict"
    chosen = next((each for each in fit if _is_due(market, each, stable)), fit[0])
    back = stable[0].label if chosen.share is not None and stable and ranged else ""
    return Pick(
        dimension,
        (chosen,),
        "upgrades" if ranged and chosen.offer else "constraints",
        _why(market, text, chosen, found, back),
        _others(found, chosen),
        back,
    )


def _is_due(market: Market, candidate: Candidate, stable: list[Candidate]) -> bool:
    return candidate.share is None or not stable or market.tries(candidate)


def _why(
    market: Market, text: str, chosen: Candidate, found: list[Candidate], returns_to: str
) -> str:
    if chosen.offer is None:
        return _why_unchecked(market, text, chosen)
    if returns_to:
        share = f"{(chosen.share or 0) * 100:g} %"
        return f"a canary for {share} of the sessions, and this is one; returns to {returns_to}"
    if is_glob(text):
        return f"the first on offer that matches {text}"
    if not parse_wanted(text).is_range:
        return "named, and on offer"
    if market.mode == "strict":
        return f"strict: the lowest version of {text}"
    above = found[: found.index(chosen)]
    if not above:
        return f"the highest version of {text} on offer"
    ill = [each for each in above if each.objection == "unhealthy"]
    if ill:
        return f"returned from {ill[0].label}, which is unhealthy, within {text}"
    return f"the highest version of {text} that is acceptable: {_said(above[0])}"


def _why_unchecked(market: Market, text: str, chosen: Candidate) -> str:
    source = "there is no catalogue" if market.catalogue is None else "the catalogue lists none"
    named = "named" if chosen.label == text else f"the lowest version of {text}"
    return f"unchecked, {source}: {named}"


def _said(candidate: Candidate) -> str:
    if candidate.objection:
        return f"{candidate.label} {_is(candidate.objection)}"
    share = f"{(candidate.share or 0) * 100:g} %"
    return f"{candidate.label} is a canary for {share} of the sessions and not for this one"


def _others(found: Iterable[Candidate], chosen: Candidate) -> tuple[str, ...]:
    others = (each for each in found if each is not chosen)
    return tuple(
        f"{each.label} ({each.objection})" if each.objection else each.label for each in others
    )


def _choose_all(
    market: Market, dimension: str, must: Sequence[str], prefer: Sequence[str]
) -> tuple[Pick | Unmet | None, list[str]]:
    picks: list[Candidate] = []
    why: list[str] = []
    lacking: list[str] = []
    notes: list[str] = []
    for text in dict.fromkeys([*must, *prefer]):
        pick = choose_word(market, dimension, text)
        if pick is not None:
            picks.extend(pick.candidates)
            why.append(pick.why)
        elif text in must:
            lacking.append(text)
        else:
            notes.append(_unmet_wish(market, dimension, [text], None))
    if lacking:
        return _unmet(market, dimension, lacking), notes
    if not picks:
        return None, notes
    unique = {candidate.label: candidate for candidate in picks}
    said = "; ".join(dict.fromkeys(why))
    return Pick(dimension, tuple(unique.values()), "constraints", said), notes


def _unmet(market: Market, dimension: str, wanted: Sequence[str]) -> Unmet:
    """Say what was wanted, what there is, which comes nearest, and why it is not taken."""
    offered = market.names(dimension) or []
    available = tuple(dict.fromkeys(candidate.label for candidate in offered))
    if not wanted:
        why = "the layers leave nothing to choose from"
        return Unmet(dimension, (), available, "", why)
    objections = [
        f"{each.label} {_is(each.objection)}"
        for text in wanted
        for each in market.candidates(dimension, text)
        if each.objection
    ]
    nearest = difflib.get_close_matches(
        parse_wanted(wanted[0]).low.text, available, n=1, cutoff=0.3
    )
    return Unmet(
        dimension,
        tuple(wanted),
        available,
        nearest[0] if nearest else "",
        "; ".join(dict.fromkeys(objections)),
    )


def _unmet_wish(
    market: Market, dimension: str, wanted: Sequence[str], must: Sequence[str] | None
) -> str:
    unmet = _unmet(market, dimension, wanted)
    if unmet.why:
        reason = unmet.why
    elif must is not None and any(market.candidates(dimension, text) for text in wanted):
        reason = f"`must` leaves only {', '.join(must) or 'nothing'}"
    else:
        reason = "nothing on offer is that"
    return f"preferred {dimension} {', '.join(wanted)} not taken: {reason}"


def _is(objection: str) -> str:
    return f"is {objection}" if objection == "unhealthy" else objection
