"""Effects that are seen before they count: what a call does is done on a fork and looked at first.

`Trial` is one try on a fork; `look` says what its merge would change; `Sandbox` runs commands
there. Whether an effect may count is the trust gate's decision.
"""

from __future__ import annotations

from fmos.effects.sandbox import Completed, Sandbox
from fmos.effects.trial import TRIAL_MARK, Effect, PathChange, Trial, discard, is_trial_of, look

__all__ = [
    "TRIAL_MARK",
    "Completed",
    "Effect",
    "PathChange",
    "Sandbox",
    "Trial",
    "discard",
    "is_trial_of",
    "look",
]
