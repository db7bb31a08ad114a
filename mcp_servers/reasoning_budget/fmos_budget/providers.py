"""Which knob each model family has for reasoning, and where it goes in a request.

A table as of November 2026; nothing is fetched. The first entry whose pattern matches a model's
name counts, so narrower names come first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Style = Literal["effort", "tokens", "toggle", "fixed"]
Parameters = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Profile:
    """One family. `efforts` weakest first; `tokens` is the least and the largest cap."""

    family: str
    pattern: str
    style: Style
    write: Callable[[Any], Parameters]
    efforts: tuple[str, ...] = ()
    tokens: tuple[int, int] = (0, 0)
    off: Parameters | None = None
    note: str = ""


_PROVIDERS = (
    "openai", "azure", "anthropic", "bedrock", "vertex_ai", "google", "google_genai", "gemini",
    "google_vertexai", "deepseek", "dashscope", "qwen", "openrouter", "ollama", "vllm", "xai",
    "moonshot", "moonshotai", "zai", "models", "together", "groq", "fireworks", "local", "cloud",
)  # fmt: skip
_PREFIX = re.compile(rf"^(?:{'|'.join(_PROVIDERS)})[:/.]", re.IGNORECASE)


def _openai(value: Any) -> Parameters:
    return {"reasoning_effort": value}


def _anthropic_cap(value: Any) -> Parameters:
    return {"thinking": {"type": "enabled", "budget_tokens": value}}


def _anthropic_effort(value: Any) -> Parameters:
    return {"thinking": {"type": "adaptive"}, "output_config": {"effort": value}}


def _gemini_cap(value: Any) -> Parameters:
    return {"generationConfig": {"thinkingConfig": {"thinkingBudget": value}}}


def _gemini_level(value: Any) -> Parameters:
    return {"generationConfig": {"thinkingConfig": {"thinkingLevel": value}}}


def _qwen(value: Any) -> Parameters:
    return {"enable_thinking": True, "thinking_budget": value}


def _qwen_template(value: Any) -> Parameters:
    return {"chat_template_kwargs": {"enable_thinking": value}}


def _ollama(value: Any) -> Parameters:
    return {"think": value}


def _thinking_type(value: Any) -> Parameters:
    return {"thinking": {"type": "enabled" if value else "disabled"}}


def _thinking_with_effort(value: Any) -> Parameters:
    return {"thinking": {"type": "enabled"}, "reasoning_effort": value}


def _nothing(value: Any) -> Parameters:
    return {}


_NO_EFFORT = {"reasoning_effort": "none"}
_DISABLED = {"thinking": {"type": "disabled"}}
_LOW_HIGH = ("low", "medium", "high")
_NO_SAMPLING = "sampling parameters such as temperature must be left out"
_CAP_NOTE = "max_tokens must be larger than budget_tokens, and temperature 1"

_TABLE = (
    Profile("gpt-oss", r"gpt-oss", "effort", _openai, _LOW_HIGH),
    Profile("ollama", r"^ollama[:/]", "toggle", _ollama, off={"think": False}),
    Profile("openai-o", r"^o[134](?:-|$)", "effort", _openai, _LOW_HIGH, note=_NO_SAMPLING),
    Profile("gpt-5-pro", r"^gpt-5-pro", "effort", _openai, ("high",), note=_NO_SAMPLING),
    Profile("gpt-5.2-pro", r"^gpt-5\.[2-6]-pro", "effort", _openai, ("medium", "high", "xhigh")),
    Profile("gpt-5.2", r"^gpt-5\.[2-6]", "effort", _openai, (*_LOW_HIGH, "xhigh"),
            off=_NO_EFFORT, note="temperature is accepted only when the effort is none"),
    Profile("gpt-5.1", r"^gpt-5\.1", "effort", _openai, _LOW_HIGH, off=_NO_EFFORT),
    Profile("gpt-5", r"^gpt-5(?![.\d])", "effort", _openai, ("minimal", *_LOW_HIGH),
            note=_NO_SAMPLING),
    Profile("claude-always", r"claude-(?:opus-5[.-]5|sonnet-5[.-]5|haiku-5[.-]5|fable-|mythos-)",
            "effort", _anthropic_effort, (*_LOW_HIGH, "max"), note=_NO_SAMPLING),
    Profile("claude-adaptive", r"claude-(?:opus-4[.-][78]|(?:opus|sonnet)-5(?![.\d]))", "effort",
            _anthropic_effort, (*_LOW_HIGH, "xhigh", "max"), off=_DISABLED, note=_NO_SAMPLING),
    Profile("claude-4.6", r"claude-(?:opus|sonnet)-4[.-]6", "effort", _anthropic_effort,
            (*_LOW_HIGH, "max"), off=_DISABLED),
    Profile("claude-budget",
            r"claude-(?:3[.-]7|(?:opus|sonnet|haiku)-4(?:[.-][015](?!\d)|-?20|$|@|-latest))",
            "tokens", _anthropic_cap, tokens=(1_024, 32_768), off=_DISABLED, note=_CAP_NOTE),
    Profile("gemini-2.5-pro", r"gemini-2\.5-pro", "tokens", _gemini_cap, tokens=(128, 32_768)),
    Profile("gemini-2.5-flash-lite", r"gemini-2\.5-flash-lite", "tokens", _gemini_cap,
            tokens=(512, 24_576), off=_gemini_cap(0)),
    Profile("gemini-2.5-flash", r"gemini-2\.5-flash", "tokens", _gemini_cap, tokens=(1, 24_576),
            off=_gemini_cap(0)),
    Profile("gemini-3.1-pro", r"gemini-3\.\d+-pro", "effort", _gemini_level, _LOW_HIGH),
    Profile("gemini-3-pro", r"gemini-3-pro", "effort", _gemini_level, ("low", "high")),
    Profile("gemini-3.7", r"gemini-3\.(?:[7-9]|\d\d)", "effort", _gemini_level, _LOW_HIGH),
    Profile("gemini-3-flash", r"gemini-3", "effort", _gemini_level, ("minimal", *_LOW_HIGH)),
    Profile("qwen-open-weights", r"^(?:vllm[:/].*)?qwen/qwen3", "toggle", _qwen_template,
            off=_qwen_template(False)),
    Profile("qwen3.8", r"^qwen-?3\.8", "effort",
            lambda value: {"enable_thinking": True, "reasoning_effort": value},
            ("low", "medium", "xhigh"), off={"enable_thinking": False}),
    Profile("qwen3.7", r"^qwen-?3\.7", "tokens", _qwen, tokens=(1, 262_144),
            off={"enable_thinking": False}),
    Profile("qwen3.5", r"^qwen-?3\.5", "tokens", _qwen, tokens=(1, 81_920),
            off={"enable_thinking": False}),
    Profile("qwen3", r"^qwen-?3(?![.\d])", "tokens", _qwen, tokens=(1, 38_912),
            off={"enable_thinking": False}),
    Profile("deepseek-v4", r"deepseek-v4", "effort", _thinking_with_effort, ("high", "max"),
            off=_DISABLED, note="reasoning_content must be returned in tool loops"),
    Profile("deepseek-r1", r"deepseek-r1", "fixed", _nothing),
    Profile("deepseek", r"deepseek-(?:reasoner|chat|v3)", "toggle", _thinking_type, off=_DISABLED,
            note="reasoning_content must be returned in tool loops"),
    Profile("glm-5.3", r"glm-5\.3", "effort", _thinking_with_effort, ("low", "high", "max")),
    Profile("glm-5.2", r"glm-5\.2", "effort", _thinking_with_effort, ("high", "max"),
            off=_DISABLED),
    Profile("glm", r"glm-(?:4\.[5-9]|5)", "toggle", _thinking_type, off=_DISABLED),
    Profile("kimi-k3", r"kimi-k3", "effort", _openai, ("low", "high", "max")),
    Profile("kimi-fixed", r"kimi-k2(?:-thinking|\.7-code)", "fixed", _nothing),
    Profile("kimi-k2", r"kimi-k2\.[56]", "toggle", _thinking_type, off=_DISABLED),
    Profile("grok-3-mini", r"grok-3-mini", "effort", _openai, ("low", "high")),
    Profile("grok-4.3", r"grok-4\.3", "effort", _openai, _LOW_HIGH, off=_NO_EFFORT),
    Profile("grok-4.5", r"grok-4\.5", "effort", _openai, _LOW_HIGH),
)  # fmt: skip


def find_profile(model: str) -> Profile | None:
    """Return the family of a model, with or without a provider's prefix, or None if unknown."""
    name = model.strip().lower()
    names = [name]
    # One prefix may follow another: `openrouter/anthropic/claude-...`.
    while match := _PREFIX.match(names[-1]):
        names.append(names[-1][match.end() :])
    for profile in _TABLE:
        if any(re.search(profile.pattern, form) for form in names):
            return profile
    return None
