"""What holds for every document, catalogue and condition: binding never gives more than asked."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fmos.contract.bind import bind
from fmos.contract.binding_document import BindingDocument
from fmos.contract.catalogue import Catalogue, Offer
from fmos.contract.manifest import Conditions, Manifest, Mode
from fmos.contract.versions import parse_name, parse_wanted
from fmos.errors import BindingError

_SETTINGS = settings(max_examples=40, deadline=None)
_DIMENSIONS = ("model", "embed_store")
_LABELS = [f"{base}_v{version}" for base in ("a", "b") for version in (1, 2, 3)]
_RANGES = [f"a_v{low}..v{high}" for low in (1, 2) for high in (2, 3)]
_PLACES = ("edge", "cloud")
_MODES: tuple[Mode, ...] = ("strict", "smooth", "flexible")

_OFFERS = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(_LABELS),
            "placement": st.lists(st.sampled_from(_PLACES), max_size=1),
            "requires": st.lists(st.sampled_from(_LABELS), max_size=1),
            "healthy": st.booleans(),
            "canary": st.sampled_from([None, {"share": 0.5}]),
        }
    ),
    max_size=5,
    unique_by=lambda offer: str(offer["name"]),
)
_CATALOGUES = st.fixed_dictionaries(dict.fromkeys(_DIMENSIONS, _OFFERS))


def _wishes(words: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    some = st.lists(st.sampled_from(words), min_size=1, max_size=3, unique=True)
    place = st.lists(st.sampled_from(_PLACES), min_size=1, max_size=2, unique=True)
    return st.fixed_dictionaries(
        {}, optional={"model": some, "embed_store": some, "placement": place}
    )


def _documents(words: list[str]) -> st.SearchStrategy[BindingDocument]:
    fallback = st.fixed_dictionaries(
        {
            "when": st.sampled_from(["low", "high"]),
            "substitute": st.dictionaries(
                st.sampled_from(_DIMENSIONS), st.sampled_from(_LABELS), min_size=1
            ),
        }
    )
    return st.builds(
        lambda must, prefer, fallbacks: BindingDocument.model_validate(
            {"agent": "x", "must": must, "prefer": prefer, "allow_fallbacks": fallbacks}
        ),
        _wishes(words),
        _wishes(words),
        st.lists(fallback, max_size=3),
    )


_CONDITIONS = st.builds(
    lambda when, unhealthy: Conditions(when=tuple(when), unhealthy=tuple(unhealthy)),
    st.lists(st.sampled_from(["low", "high"]), unique=True),
    st.lists(st.sampled_from(_LABELS), max_size=2, unique=True),
)


def _bound(
    document: BindingDocument,
    catalogue: dict[str, Any],
    mode: Mode,
    conditions: Conditions,
    session: str = "",
) -> Manifest | None:
    try:
        return bind(
            document,
            catalogue=Catalogue.model_validate(catalogue),
            mode=mode,
            conditions=conditions,
            session=session,
        )
    except BindingError:
        return None


def _offer(catalogue: dict[str, Any], dimension: str, label: str) -> Offer:
    return next(
        Offer.model_validate(offer) for offer in catalogue[dimension] if offer["name"] == label
    )


@_SETTINGS
@given(_documents(_LABELS + _RANGES), _CATALOGUES, st.sampled_from(_MODES), _CONDITIONS)
def test_what_is_chosen_satisfies_every_demand(
    document: BindingDocument, catalogue: dict[str, Any], mode: Mode, conditions: Conditions
) -> None:
    """The value is named by `must` or by a fallback that holds, healthy, and in its place."""
    manifest = _bound(document, catalogue, mode, conditions)
    if manifest is None:
        return
    named = {
        str(value)
        for each in document.allow_fallbacks
        if mode == "flexible" and each.when in conditions.when
        for value in each.substitute.values()
    }
    place = manifest.chosen.get("placement")
    for dimension in _DIMENSIONS:
        label = manifest.chosen.get(dimension)
        if label is None:
            assert dimension not in document.must
            continue
        assert isinstance(label, str)
        must = document.must.get(dimension)
        meant = must is None or any(parse_wanted(w).admits(parse_name(label)) for w in must)
        assert meant or label in named
        offer = _offer(catalogue, dimension, label)
        assert offer.healthy
        assert label not in conditions.unhealthy
        assert place is None or not offer.placement or place in offer.placement
    if "placement" in document.must:
        assert place in document.must["placement"]


@_SETTINGS
@given(st.sampled_from(_RANGES), _OFFERS, _CONDITIONS, st.sampled_from(["", "s1", "s2", "s3"]))
def test_smooth_takes_the_highest_version_in_the_range(
    wanted: str, offers: list[dict[str, Any]], conditions: Conditions, session: str
) -> None:
    """Never outside the range, and never below a healthy version that is no canary."""
    offers = [{**offer, "requires": []} for offer in offers]
    document = BindingDocument.model_validate({"agent": "x", "must": {"model": wanted}})
    catalogue = {"model": offers}
    manifest = _bound(document, catalogue, "smooth", conditions, session)
    names = {
        parse_name(offer["name"]): offer
        for offer in offers
        if offer["healthy"] and offer["name"] not in conditions.unhealthy
    }
    fit = {name: offer for name, offer in names.items() if parse_wanted(wanted).admits(name)}
    assert (manifest is None) == (not fit)
    if manifest is None:
        return
    chosen = parse_name(str(manifest.chosen["model"]))
    assert chosen in fit
    stable = [name.version for name, offer in fit.items() if offer["canary"] is None]
    assert all(chosen.version >= version for version in stable)
    if manifest.canary:
        assert manifest.returns_to["model"] == f"a_v{max(stable)[0]}"


@_SETTINGS
@given(_documents(_LABELS), _CATALOGUES, _CONDITIONS, st.sampled_from(["", "s1"]))
def test_strict_is_smooth_for_single_versions(
    document: BindingDocument, catalogue: dict[str, Any], conditions: Conditions, session: str
) -> None:
    """Without ranges both modes choose the same, or refuse both."""
    strict = _bound(document, catalogue, "strict", conditions, session)
    smooth = _bound(document, catalogue, "smooth", conditions, session)
    assert (strict is None) == (smooth is None)
    if strict is not None and smooth is not None:
        assert strict.chosen == smooth.chosen


@_SETTINGS
@given(_documents(_LABELS + _RANGES), _CATALOGUES, st.sampled_from(_MODES), _CONDITIONS, st.data())
def test_an_offer_less_never_makes_a_refused_document_bindable(
    document: BindingDocument,
    catalogue: dict[str, Any],
    mode: Mode,
    conditions: Conditions,
    data: st.DataObject,
) -> None:
    """What is refused stays refused when any one offer is taken away."""
    offers = [(name, offer) for name in _DIMENSIONS for offer in catalogue[name]]
    if not offers or _bound(document, catalogue, mode, conditions) is not None:
        return
    dimension, gone = data.draw(st.sampled_from(offers))
    left = [offer for offer in catalogue[dimension] if offer is not gone]
    assert _bound(document, {**catalogue, dimension: left}, mode, conditions) is None


@_SETTINGS
@given(_documents(_LABELS + _RANGES), _CATALOGUES, st.sampled_from(_MODES), _CONDITIONS)
def test_the_same_inputs_give_the_same_hash(
    document: BindingDocument, catalogue: dict[str, Any], mode: Mode, conditions: Conditions
) -> None:
    """Binding is a function of its inputs, whatever objects carry them."""
    again = BindingDocument.model_validate(document.model_dump(by_alias=True, exclude_unset=True))
    first = _bound(document, catalogue, mode, conditions, "s1")
    second = _bound(again, catalogue, mode, conditions, "s1")
    assert (first is None) == (second is None)
    if first is not None and second is not None:
        assert first.hash == second.hash
        first.verify()
