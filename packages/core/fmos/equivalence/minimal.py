"""Shortens a failing sequence by delta debugging (Zeller and Hildebrandt, IEEE TSE 28(2), 2002)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from fmos.equivalence.model import Progress, Step


class Shortener:
    """Looks for the shortest part of a sequence that still fails, within tries and seconds."""

    def __init__(
        self,
        fails: Callable[[Sequence[Step]], bool],
        tries: int,
        seconds: float,
        progress: Progress | None = None,
    ) -> None:
        self._fails = fails
        self._progress = progress
        self._left = tries
        self._until = time.monotonic() + seconds
        self.tries = 0

    def shortest(self, steps: Sequence[Step], suspect: int | None = None) -> list[Step]:
        """Return a part of the steps that fails, and of which no single step can be left out.

        `suspect` is the step at which the failure was seen: it is tried alone, then with what was
        before it. Where tries or time run out first, it is the shortest that was found.
        """
        kept = list(steps)
        if suspect is not None:
            for part in (kept[suspect : suspect + 1], kept[: suspect + 1]):
                if self._goes_on() and self._tried(part):
                    kept = part
                    break
        parts = 2
        while len(kept) >= 2 and self._goes_on():
            size = max(1, len(kept) // parts)
            rest = self._without_one(kept, size)
            if rest is not None:
                kept, parts = rest, max(parts - 1, 2)
            elif size == 1:
                break
            else:
                parts = min(len(kept), parts * 2)
        return kept

    def _without_one(self, steps: list[Step], size: int) -> list[Step] | None:
        # From the end: what is after the failure is not needed for it.
        for start in reversed(range(0, len(steps), size)):
            rest = steps[:start] + steps[start + size :]
            if rest and self._goes_on() and self._tried(rest):
                return rest
        return None

    def _tried(self, steps: list[Step]) -> bool:
        self._left -= 1
        self.tries += 1
        if self._progress is not None:
            self._progress(f"looking for a shorter sequence than {len(steps):,}; tried", self.tries)
        return self._fails(steps)

    def _goes_on(self) -> bool:
        return self._left > 0 and time.monotonic() < self._until
