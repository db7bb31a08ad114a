from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmos.errors import ArgumentError
from fmos_budget.levels import TOKENS, set_level
from fmos_budget.providers import _TABLE, find_profile

THINKING_OFF = {"thinking": {"type": "disabled"}}


def gemini(name: str, value: Any) -> dict[str, Any]:
    """Return the request part for a Gemini model."""
    return {"generationConfig": {"thinkingConfig": {name: value}}}


@pytest.mark.parametrize(
    ("model", "level", "parameters", "exact"),
    [
        ("o3", "high", {"reasoning_effort": "high"}, True),
        ("o4-mini", "off", {"reasoning_effort": "low"}, False),
        ("gpt-5", "minimal", {"reasoning_effort": "minimal"}, True),
        ("gpt-5-mini", "max", {"reasoning_effort": "high"}, False),
        ("gpt-5-pro", "low", {"reasoning_effort": "high"}, False),
        ("gpt-5.2", "off", {"reasoning_effort": "none"}, True),
        ("openai:gpt-5.2", "max", {"reasoning_effort": "xhigh"}, False),
        ("gpt-5.1", "minimal", {"reasoning_effort": "low"}, False),
        (
            "claude-sonnet-4-5",
            "low",
            {"thinking": {"type": "enabled", "budget_tokens": 1024}},
            True,
        ),
        (
            "anthropic/claude-3-7-sonnet-latest",
            500,
            {"thinking": {"type": "enabled", "budget_tokens": 1024}},
            False,
        ),
        ("claude-sonnet-4-20250514", "off", THINKING_OFF, True),
        (
            "claude-opus-4-6",
            "max",
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}},
            True,
        ),
        (
            "claude-opus-5-5",
            "off",
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
            False,
        ),
        ("gemini-2.5-flash", "off", gemini("thinkingBudget", 0), True),
        ("gemini-2.5-flash", "high", gemini("thinkingBudget", 24576), True),
        ("gemini-2.5-flash", 50000, gemini("thinkingBudget", 24576), False),
        ("models/gemini-2.5-pro", "off", gemini("thinkingBudget", 128), False),
        ("gemini-3-pro-preview", "medium", gemini("thinkingLevel", "low"), False),
        ("gemini-3-flash", "minimal", gemini("thinkingLevel", "minimal"), True),
        ("qwen3-235b-a22b", "medium", {"enable_thinking": True, "thinking_budget": 8192}, True),
        ("qwen3-235b-a22b", "off", {"enable_thinking": False}, True),
        ("Qwen/Qwen3-8B", "high", {"chat_template_kwargs": {"enable_thinking": True}}, False),
        ("deepseek-reasoner", "off", THINKING_OFF, True),
        ("deepseek-reasoner", "low", {"thinking": {"type": "enabled"}}, False),
        (
            "deepseek-v4",
            "max",
            {"thinking": {"type": "enabled"}, "reasoning_effort": "max"},
            True,
        ),
        ("deepseek-r1", "off", {}, False),
        ("ollama/qwen3:8b", "off", {"think": False}, True),
        ("gpt-oss-20b", "medium", {"reasoning_effort": "medium"}, True),
    ],
)
def test_level_becomes_the_providers_parameters(
    model: str, level: Any, parameters: dict[str, Any], exact: bool
) -> None:
    """Each family gets its own parameter, and a rounded level says so."""
    setting = set_level(model, level)
    assert setting.parameters == parameters
    assert setting.applied.exact is exact
    assert exact or setting.note


def test_unknown_model_is_asked_in_words() -> None:
    """A model that is not in the table gets an instruction, and the answer says it is only that."""
    setting = set_level("some-local-model", "low")
    assert setting.applied.kind == "prompt"
    assert setting.applied.exact is False
    assert setting.parameters == {"instruction": setting.applied.value}
    assert "nothing enforces it" in setting.note


def test_tokens_on_an_effort_model_are_rounded_down() -> None:
    """A number of tokens becomes the effort worth at most that many, and the note says it."""
    setting = set_level("gpt-5.2", 9_000)
    assert setting.applied.value == "medium"
    assert "no number of tokens" in setting.note


def test_negative_tokens_and_empty_names_are_refused() -> None:
    """A level below nothing, or a model without a name, is an error that names the argument."""
    with pytest.raises(ArgumentError, match="'level'"):
        set_level("gpt-5", -1)
    with pytest.raises(ArgumentError, match="'model'"):
        set_level(" ", "low")


MODELS = [
    "o3", "gpt-5", "gpt-5.1", "gpt-5.2-pro", "claude-3-7-sonnet", "claude-opus-5",
    "claude-sonnet-5-5", "gemini-2.5-pro", "gemini-2.5-flash-lite", "gemini-3-pro", "qwen3-8b",
    "qwen3.8-max", "deepseek-chat", "glm-5.3", "kimi-k3", "grok-3-mini", "mystery",
]  # fmt: skip


@given(st.sampled_from(MODELS), st.integers(0, 10**6), st.integers(0, 10**6))
def test_more_is_never_less(model: str, one: int, two: int) -> None:
    """Asking for more reasoning never applies less of it."""

    def strength(tokens: int) -> int:
        value = set_level(model, tokens).applied.value
        if isinstance(value, str):
            return TOKENS.get(value, 0)  # type: ignore[call-overload]
        return int(value)

    less, more = sorted((one, two))
    assert strength(less) <= strength(more)


@given(st.sampled_from(MODELS), st.integers(0, 10**6))
def test_exact_means_nothing_was_changed(model: str, tokens: int) -> None:
    """An exact number of tokens is the number that was asked for, or off."""
    applied = set_level(model, tokens).applied
    if applied.exact:
        assert applied.value in (tokens, False)


def test_every_family_has_efforts_it_can_be_rounded_to() -> None:
    """The table is complete: efforts are levels, weakest first; caps are a range."""
    for profile in _TABLE:
        worths = [TOKENS[effort] for effort in profile.efforts]  # type: ignore[index]
        assert worths == sorted(worths)
        assert bool(worths) == (profile.style == "effort")
        assert (profile.tokens[0] < profile.tokens[1]) == (profile.style == "tokens")


def test_provider_prefixes_are_understood() -> None:
    """A model is found under any chain of providers' prefixes."""
    profile = find_profile("openrouter/anthropic/claude-opus-4.6")
    assert profile is not None
    assert profile.family == "claude-4.6"
