"""What one session has done so far, in bounded memory: what signals and learned traps look at.

Holds digests, counts and words, never an argument or a text. Not thread-safe: its owner locks.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

#: The time constants of the two exponentially weighted counts (Roberts, "Control chart tests based
#: on geometric moving averages", Technometrics 1(3), 1959): what happens now, and what is usual.
NOW_S = 10.0
USUAL_S = 300.0

#: Equal calls are counted over the last 32 to 63.
WINDOW = 32

#: Time counts in ticks of 2^29 nanoseconds, about half a second.
_TICK = 29
_TICK_S = 2**_TICK / 1e9
_TOOLS = 4096
_SHAPES = 32_768
_TRAPS = 8
_WORDS_KEPT = 50_000
_TEXT_READ = 200_000

#: Words are taken for the same word when so many first letters agree.
STEM = 5

_WORD = re.compile(r"[^\W_]+")


class Trajectory:
    """A session's past. Call `observe` for each operation, then judge it, then `judged`."""

    __slots__ = (
        "_before",
        "_last_tool",
        "_recent",
        "_scale",
        "_shapes",
        "_start",
        "_tick",
        "_tool_before",
        "_tools",
        "budget_used",
        "calls",
        "calls_of_tool",
        "count_now",
        "count_usual",
        "new_shape",
        "output_words",
        "outputs",
        "reads_texts",
        "repeats",
        "traps",
        "user_stems",
        "user_words",
    )

    def __init__(self, *, reads_texts: bool = False) -> None:
        """Begin empty; words are kept only with `reads_texts`, which learned traps need."""
        self.reads_texts = reads_texts
        self.calls = 0
        self.count_now = self.count_usual = 0.0
        self.repeats = self.calls_of_tool = 0
        self.new_shape = False
        self.budget_used = 0.0
        self.traps: deque[bool] = deque(maxlen=_TRAPS)
        self.user_words: set[str] = set()
        self.user_stems: set[str] = set()
        self.output_words: set[str] = set()
        self.outputs = 0
        self._last_tool = self._tool_before = ""
        self._start = 0
        self._scale = 1.0
        self._tick = -1
        self._before: dict[int, int] = {}
        self._recent: dict[int, int] = {}
        self._tools: dict[str, int] = {}
        self._shapes: set[int] = set()

    def observe(self, name: str, arguments: dict[str, Any], now_ns: int) -> None:
        """Take the next operation into account; `now_ns` is of a clock that never goes back.

        One function, because it is on the path of every innocuous operation.
        """
        tick = now_ns >> _TICK
        if tick > self._tick:
            self._decay(tick)
        self.calls = number = self.calls + 1
        self.count_now += 1
        self.count_usual += 1
        self._tool_before = self._last_tool
        self._last_tool = name
        tools = self._tools
        self.calls_of_tool = calls = tools.get(name, 0)
        tools[name] = calls + 1
        values = tuple(arguments.values())
        # Looked for as it came first; the order of the names makes no other shape.
        shape = hash((name, *arguments, *map(type, values)))
        self.new_shape = shape not in self._shapes and self._is_new_shape(shape, name, arguments)
        try:
            digest = hash((shape, values))
        except TypeError:  # a list or an object among the values
            digest = hash((shape, repr(arguments)))
        recent = self._recent
        if not number & (WINDOW - 1):
            self._before, self._recent = recent, (recent := {})
        recent[digest] = count = recent.get(digest, 0) + 1
        self.repeats = count + self._before.get(digest, 0)

    def judged(self, *, trapped: bool) -> None:
        """Note how the operation that was observed last was judged."""
        self.traps.append(trapped)

    def _decay(self, tick: int) -> None:
        """Let both counts fade to a later tick; the first operation starts the session."""
        if not self.calls:
            self._start = self._tick = tick
        passed_s = (tick - self._tick) * _TICK_S
        self._tick = tick
        self.count_now *= math.exp(-passed_s / NOW_S)
        self.count_usual *= math.exp(-passed_s / USUAL_S)
        # The usual rate counts from the session's start, so that a young session has one too.
        age_s = max((tick - self._start) * _TICK_S, NOW_S)
        self._scale = USUAL_S * -math.expm1(-age_s / USUAL_S) / NOW_S

    @property
    def same_tool(self) -> bool:
        """Whether the operation before was of the same tool."""
        return self._last_tool == self._tool_before

    def note_budget(self, used: float) -> None:
        """Note the largest share (0..1) of a limit that the session's accounts have used."""
        self.budget_used = used

    def note_text(self, text: str, *, of_user: bool) -> None:
        """Keep the words of a text that entered the session, up to a bound."""
        if not of_user:
            self.outputs += 1
        if self.reads_texts:
            kept = self.user_words if of_user else self.output_words
            for word in words(text[:_TEXT_READ]):
                if len(kept) >= _WORDS_KEPT:
                    break
                kept.add(word)
            if of_user:
                self.user_stems = {word[:STEM] for word in kept}

    def burst(self) -> float:
        """Return how many times its usual rate the session's rate is now."""
        return self.count_now / self.count_usual * self._scale

    def _is_new_shape(self, shape: int, name: str, arguments: dict[str, Any]) -> bool:
        """Keep a shape, up to a bound, and return whether it is new in any order."""
        plain = hash((name, frozenset((key, type(value)) for key, value in arguments.items())))
        is_new = plain not in self._shapes
        if len(self._shapes) < _SHAPES:
            self._shapes.update((shape, plain))
        if len(self._tools) > _TOOLS:
            del self._tools[next(iter(self._tools))]
        return is_new


def words(text: str) -> list[str]:
    """Return the words of a text: runs of letters and digits, in lower case."""
    return _WORD.findall(text.lower())


def leaves(value: Any, limit: int) -> Iterator[str]:
    """Yield the first scalars inside a value as text, at most `limit` of them."""
    waiting: list[Any] = [value]
    while waiting and limit > 0:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting.extend(_newest_last(item.values()))
        elif isinstance(item, list | tuple):
            waiting.extend(_newest_last(item))
        elif item is not None and item != "":
            limit -= 1
            yield item if isinstance(item, str) else str(item)


def _newest_last(items: Iterable[Any]) -> list[Any]:
    return list(items)[::-1]
