"""One score from a few monotone features, with thresholds; weights are data (weights.json)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

#: What the score looks at; each from 0 to 1, and more is never safer.
FEATURES = (
    "unasked",  # the request does not imply the tool
    "target",  # who or what the call acts on is not from the user
    "terms",  # when and how much is not from the user
    "ordered",  # share of the call that only a stranger's order explains
    "prompted",  # a stranger's order implies the tool more than the request does
    "content",  # links and addresses in what is said that only strangers' texts hold
    "leak",  # values of private fields leave in a call that is not explained
    "destructive",  # the tool takes away or overwrites, unasked
)

Decision = Literal["allow", "ask", "deny"]


@dataclass(frozen=True)
class Weights:
    """A linear model over the features and the scores from which a call is asked or denied."""

    bias: float
    weights: Mapping[str, float]
    ask: float
    deny: float

    def score(self, features: Mapping[str, float]) -> float:
        """Return from 0 to 1 how likely nobody but a stranger asked for the call."""
        total = self.bias + sum(self.weights[name] * features[name] for name in FEATURES)
        return 1 / (1 + math.exp(-max(min(total, 60.0), -60.0)))

    def decide(self, score: float) -> Decision:
        """Return what a score means."""
        return "deny" if score >= self.deny else "ask" if score >= self.ask else "allow"


@lru_cache(maxsize=8)
def load(path: Path | None = None) -> Weights:
    """Return the weights of a file; by default those that ship with the gate."""
    found = json.loads((path or Path(__file__).with_name("weights.json")).read_text("utf-8"))
    return Weights(found["bias"], found["weights"], found["ask"], found["deny"])
