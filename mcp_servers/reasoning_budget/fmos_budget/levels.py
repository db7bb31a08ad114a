"""Sets a reasoning level in the words of a model's provider, and says truthfully what it became.

One scale for all: a level is worth a number of thinking tokens. Where a model lacks the level,
the next weaker one is taken; only where there is none, the weakest that the model has.
"""

from __future__ import annotations

from typing import Any

from fmos.errors import ArgumentError
from fmos_budget.model import Applied, Level, LevelSetting
from fmos_budget.providers import Profile, find_profile

#: Thinking tokens that a level is worth. `max` means whatever the model's largest cap is.
TOKENS: dict[Level, int] = {
    "off": 0,
    "minimal": 512,
    "low": 1_024,
    "medium": 8_192,
    "high": 24_576,
    "xhigh": 32_768,
    "max": 10**9,
}


def set_level(model: str, level: Level | int) -> LevelSetting:
    """Return what to put into a request so that a model reasons at a level.

    Raises:
        ArgumentError: if a number of tokens is negative, or the model has no name.
    """
    if not model.strip():
        raise ArgumentError("argument 'model' is empty", hint="give the model's name")
    if isinstance(level, int) and level < 0:
        raise ArgumentError(
            f"argument 'level': {level} is not a number of tokens", hint="give 0 or more"
        )
    profile = find_profile(model)
    if profile is None:
        return _by_prompt(model, level)
    wanted = level if isinstance(level, int) else TOKENS[level]
    applied, parameters, note = _apply(profile, level, wanted)
    return LevelSetting(
        model=model,
        family=profile.family,
        requested=level,
        applied=applied,
        parameters=parameters,
        note="; ".join(part for part in (note, profile.note) if part),
    )


def _apply(
    profile: Profile, level: Level | int, wanted: int
) -> tuple[Applied, dict[str, Any], str]:
    if profile.style == "fixed":
        note = "this model reasons at a level of its own that no request can change"
        return Applied(kind="fixed", value="on", exact=False), {}, note
    if wanted == 0 and profile.off is not None:
        kind = "tokens" if profile.style == "tokens" else "toggle"
        value = 0 if kind == "tokens" else False
        return Applied(kind=kind, value=value, exact=True), profile.off, ""
    if profile.style == "tokens":
        return _as_tokens(profile, level, wanted)
    if profile.style == "toggle":
        note = "this model can only switch reasoning on or off; it is on"
        return Applied(kind="toggle", value=True, exact=False), profile.write(True), note
    return _as_effort(profile, level, wanted)


def _as_tokens(
    profile: Profile, level: Level | int, wanted: int
) -> tuple[Applied, dict[str, Any], str]:
    least, most = profile.tokens
    value = min(max(wanted, least), most)
    note = ""
    if wanted == 0:
        note = f"this model cannot stop reasoning; its least is {least} tokens"
    elif value > wanted:
        note = f"raised from {wanted} to the {least} tokens that this model takes at least"
    elif value < wanted and level != "max":
        note = f"lowered from {wanted} to the {most} tokens that this model takes at most"
    return Applied(kind="tokens", value=value, exact=not note), profile.write(value), note


def _as_effort(
    profile: Profile, level: Level | int, wanted: int
) -> tuple[Applied, dict[str, Any], str]:
    value = _nearest(profile.efforts, wanted)
    asked = f"{level} tokens" if isinstance(level, int) else repr(level)
    note = ""
    if isinstance(level, int):
        note = f"this model takes an effort and no number of tokens: {asked} became {value!r}"
    elif value != level and level == "off":
        note = f"this model cannot stop reasoning; its weakest effort is {value!r}"
    elif value != level:
        weaker = "weaker" if _worth(value) < wanted else "stronger"
        note = f"this model has no {asked}; the next {weaker} effort is {value!r}"
    return Applied(kind="effort", value=value, exact=not note), profile.write(value), note


def _nearest(efforts: tuple[str, ...], wanted: int) -> str:
    weaker = [effort for effort in efforts if _worth(effort) <= wanted]
    return weaker[-1] if weaker else efforts[0]


def _worth(effort: str) -> int:
    return next(worth for level, worth in TOKENS.items() if level == effort)


def _by_prompt(model: str, level: Level | int) -> LevelSetting:
    text = _instruction(level)
    return LevelSetting(
        model=model,
        family="unknown",
        requested=level,
        applied=Applied(kind="prompt", value=text, exact=False),
        parameters={"instruction": text},
        note="this model is not in the table, so it is only asked in words: put the instruction"
        " into the system prompt; nothing enforces it",
    )


def _instruction(level: Level | int) -> str:
    tokens = level if isinstance(level, int) else TOKENS[level]
    if tokens == 0:
        return "Answer directly, without reasoning first."
    if tokens < TOKENS["medium"]:
        return (
            "Think briefly before you answer: keep only a draft of each step, at most five words"
            " each, then give the final answer."
        )
    if tokens < TOKENS["high"]:
        return "Think step by step before you answer, then give the final answer."
    return (
        "Think carefully and at length before you answer: consider alternatives, check each step,"
        " then give the final answer."
    )
