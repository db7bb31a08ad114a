"""Says in sentences for a person why a call is asked about, and what would change it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fmos_trust.evidence.catalogue import ToolFacts
from fmos_trust.evidence.values import Given

_LONGEST_SHOWN = 60
#: From here on a feature is worth a sentence.
_TELLING = 0.3
_TELLING_VALUE = 0.2
_MOST_VALUES = 4

_CAME = {
    "field": "is a field of what {where} returned, and the request does not speak of it",
    "beside": "is a field of what {where} returned",
    "text": "stands only in a text that {where} returned",
    "order": "stands in a text of {where} that reads like an order",
    "near": "is {other!r}, which was seen, but for one character",
    "granted": "stands in {where}, which the request points at",
    "nowhere": "is in nothing that the user said or a tool returned",
}
_CHANGE = "it is allowed once the user names it"


def reasons(
    tool: ToolFacts, given: Sequence[Given], features: Mapping[str, float]
) -> Iterator[tuple[str, str]]:
    """Yield (code, sentence), the weightiest first."""
    if features["ordered"] >= _TELLING or features["prompted"] >= _TELLING:
        yield (
            "trust.evidence.ordered",
            "a text that a tool returned asks for this call, and the user does not; "
            "it is allowed once the user asks for it",
        )
    worst = sorted((each for each in given if each.strange >= _TELLING_VALUE), key=_strange)
    for each in worst[:_MOST_VALUES]:
        yield f"trust.evidence.{each.origin.kind}", _sentence(each)
    if features["unasked"] >= _TELLING:
        yield (
            "trust.evidence.unasked",
            f"the request does not ask for {tool.name!r}; it is allowed once the user asks for it",
        )
    if features["content"] >= _TELLING:
        yield (
            "trust.evidence.content",
            "what is said passes on a link or address that only a tool's text holds; "
            "leave it out, or let the user name it",
        )
    if features["leak"] >= _TELLING:
        yield (
            "trust.evidence.leak",
            "values that tools returned would leave with this call; send it without them",
        )


def _strange(each: Given) -> float:
    return -each.strange


def _sentence(each: Given) -> str:
    text = each.text
    value = text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."
    where = each.origin.where or "a tool"
    came = _CAME.get(each.origin.kind, "comes from {where}")
    return f"{each.name} {value!r} {came.format(where=where, other=each.origin.other)}; {_CHANGE}"
