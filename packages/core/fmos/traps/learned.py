"""Learned traps: logistic regression over features, as a versioned artefact that is only data.

An artefact can add traps and never remove one: the judge takes the union. Training is in
`fmos.traps.training`; here is what a session needs, in plain Python.
"""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, ValidationError, model_validator

from fmos.canonical import content_digest
from fmos.errors import FormatError
from fmos.traps.features import NAMES, vector
from fmos.traps.trajectory import Trajectory
from fmos.types import Operation, Record

_LARGEST_BYTES = 1_000_000

Share = Annotated[float, Field(ge=0, le=1)]


class Scores(Record):
    """How well traps fit labels: over operations, with injected ones as what should trap."""

    operations: int
    positives: int
    precision: Share
    recall: Share
    false_traps: Share = Field(description="share of the harmless operations that trap")
    runs_caught: Share = Field(description="share of the runs with one where at least one traps")


class Line(Record):
    """One linear model: traps where bias + the sum of weight times feature is above zero."""

    weights: dict[str, FiniteFloat]
    bias: FiniteFloat
    threshold: Annotated[float, Field(gt=0, lt=1)] = Field(description="probability to trap at")

    @model_validator(mode="after")
    def _knows_its_features(self) -> Line:
        unknown = sorted(self.weights.keys() - set(NAMES))
        if unknown:
            raise ValueError(f"this version has no feature {unknown[0]!r}")
        return self

    @functools.cached_property
    def _terms(self) -> tuple[tuple[int, float], ...]:
        return tuple((NAMES.index(name), weight) for name, weight in self.weights.items())

    @functools.cached_property
    def _least(self) -> float:
        """The sum at which the probability reaches the threshold."""
        return math.log(self.threshold / (1 - self.threshold)) - self.bias

    def probability(self, values: tuple[float, ...]) -> float:
        """Return the probability that an operation with these features should trap."""
        total = self.bias + sum([values[at] * weight for at, weight in self._terms])
        return 1 / (1 + math.exp(-max(min(total, 700.0), -700.0)))

    def traps(self, values: tuple[float, ...]) -> bool:
        """Return whether an operation with these features traps."""
        # `not <`: a sum that is no number traps.
        return not sum([values[at] * weight for at, weight in self._terms]) < self._least


class TrapModel(Record):
    """One artefact: two linear models, what they were trained on, and how they did there."""

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    full: Line = Field(description="what judges: with the features of the trajectory")
    operation_only: Line = Field(description="the same without them, to compare with")
    trained_on: str = Field(description="SHA-256 of the training file")
    split_by: str = Field(description="field that keeps rows together when they are split")
    held_out: Share = Field(description="share of the groups that was kept for measuring")
    metrics: dict[str, Scores] = Field(default_factory=dict)
    created: str = Field(description="when, ISO 8601")
    digest: str = ""

    @model_validator(mode="after")
    def _is_whole(self) -> TrapModel:
        if self.digest and self.digest != self._own_digest():
            raise ValueError("its digest is of another content: it was changed after training")
        return self

    def sealed(self) -> TrapModel:
        """Return the artefact with its digest."""
        return self.model_copy(update={"digest": self._own_digest()})

    def traps(self, operation: Operation, past: Trajectory) -> bool:
        """Return whether the operation that `past` observed last should trap."""
        return self.full.traps(vector(operation, past))

    def _own_digest(self) -> str:
        return content_digest(self.model_dump(mode="json", exclude={"digest"}))


class ModelPin(Record):
    """Which artefact a policy wants. `frozen` holds to the digest: every other one is refused."""

    path: str
    digest: str = ""
    frozen: bool = False

    @model_validator(mode="after")
    def _frozen_names_one(self) -> ModelPin:
        if self.frozen and not self.digest:
            raise ValueError("`frozen: true` needs the `digest` of the artefact")
        return self


def load(pin: ModelPin) -> TrapModel:
    """Return the artefact that a policy wants.

    Raises:
        FormatError: if the file is no whole artefact, or not the one that is frozen.
    """
    model = load_file(Path(pin.path))
    if pin.frozen and model.digest != pin.digest:
        raise FormatError(
            f"the learned traps {pin.path!r} have the digest {model.digest[:12]!r} and the policy"
            f" is frozen at {pin.digest[:12]!r}",
            hint="put the frozen artefact back, or change the policy's `digest`",
        )
    return model


def load_file(path: Path) -> TrapModel:
    """Return the artefact in a file.

    Raises:
        FormatError: naming the file and what is wrong with it.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_BYTES + 1)
        if len(data) > _LARGEST_BYTES:
            raise _unusable(path, f"it is larger than {_LARGEST_BYTES:,} bytes")
        found: Any = json.loads(data)
        model = TrapModel.model_validate(found)
    except OSError as error:
        raise _unusable(path, str(error.strerror)) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise _unusable(path, f"{where}: {first['msg']}" if where else first["msg"]) from error
    except (ValueError, RecursionError) as error:
        raise _unusable(path, f"it is not JSON ({error})") from error
    if not model.digest:
        raise _unusable(path, "it has no digest")
    return model


def _unusable(path: Path, why: str) -> FormatError:
    return FormatError(
        f"{str(path)!r} is not a usable file of learned traps: {why}",
        hint="train one with `fmos traps train --data FILE --out FILE`",
    )
