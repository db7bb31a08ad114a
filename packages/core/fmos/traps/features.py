"""What learned traps look at: numbers of one operation and of the trajectory before it.

No feature names a tool, a person or a site. Words are compared, never kept in an artefact.
"""

from __future__ import annotations

import math

from fmos.traps.trajectory import STEM, Trajectory, leaves, words
from fmos.types import Operation

_LEAVES = 24
_LEAF = 400
_LONG = 120
_DIGITS = 8

#: First words of tool names that promise to look and not to change; a convention, not a proof.
_LOOKING = frozenset(
    {"check", "describe", "fetch", "find", "get", "has", "is", "list", "look", "lookup"}
    | {"query", "read", "search", "show", "stat", "view"}
)

#: Features of the call itself, measured against what the user said.
OF_OPERATION = (
    "changes",  # the tool's name does not begin with a verb of looking
    "arguments",  # how many values, as a logarithm
    "long",  # a value of more than 120 characters
    "address",  # a value with `@` or `://`
    "number",  # a value with eight digits or more
    "name_not_asked",  # no word of the tool's name begins as a word of the user does
    "values_not_asked",  # share of the values with a word that the user did not say
    "words_not_asked",  # share of their words
)

#: Features of what came before: what R6 of the requirements calls the history.
OF_TRAJECTORY = (
    "calls",  # how many before this one, as a logarithm
    "outputs",  # how many texts of tools came in, as a logarithm
    "tool_is_new",  # its first call in the session
    "same_tool",  # the call before was of this tool
    "repeated",  # with these arguments too, not long ago
    "trapped_last",  # the call before trapped
    "trapped_before",  # share of the last eight that trapped
    "values_from_outputs",  # share of the values that only tools' outputs explain
    "values_from_nowhere",  # share of the values that neither the user nor an output explains
)

NAMES = OF_OPERATION + OF_TRAJECTORY


def vector(operation: Operation, past: Trajectory) -> tuple[float, ...]:
    """Return the features, in the order of `NAMES`, of the operation that `past` observed last."""
    named = words(operation.name.replace("_", " "))
    texts = list(leaves(operation.arguments, _LEAVES))
    values = [set(words(text[:_LEAF])) for text in texts]
    unasked = [rest for value in values if (rest := value - past.user_words)]
    shown = past.output_words
    from_outputs = sum(rest <= shown for rest in unasked)
    count = max(len(values), 1)
    every = sum(map(len, values)) or 1
    traps = past.traps
    return (
        _yes(not named or named[0] not in _LOOKING),
        math.log1p(len(values)),
        _yes(any(len(text) > _LONG for text in texts)),
        _yes(any("@" in text or "://" in text for text in texts)),
        _yes(any(len(text) >= _DIGITS and _is_number(text) for text in texts)),
        _yes(not past.user_stems & {word[:STEM] for word in named[1:] or named}),
        len(unasked) / count,
        sum(map(len, unasked)) / every,
        math.log1p(past.calls - 1),
        math.log1p(past.outputs),
        _yes(past.calls_of_tool == 0),
        _yes(past.same_tool),
        _yes(past.repeats > 1),
        _yes(bool(traps) and traps[-1]),
        sum(traps) / len(traps) if traps else 0.0,
        from_outputs / count,
        (len(unasked) - from_outputs) / count,
    )


def _yes(fact: bool) -> float:
    return 1.0 if fact else 0.0


def _is_number(text: str) -> bool:
    return sum([char.isdigit() for char in text[:_LEAF]]) >= _DIGITS
