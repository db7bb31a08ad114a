"""What a drafted sentence says: which calls, under which conditions, and but for which."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from fmos.contract.trust_policy import Constraint, DataClass, RuleEffect, Selector, SourceKind

#: Every kind of source that a value may come from.
SOURCES: tuple[SourceKind, ...] = (
    "user", "system", "contract", "field", "text", "memory", "agent", "none",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Expression:
    """A condition in CEL; `yes` and `no` make it hold in an example, and fail."""

    cel: str
    yes: dict[str, object]
    no: dict[str, object]

    def negated(self) -> Expression:
        """Return the opposite."""
        plain = self.cel.startswith("!(") and self.cel.endswith(")")
        return Expression(self.cel[2:-1] if plain else f"!({self.cel})", self.no, self.yes)


@dataclass(frozen=True, slots=True)
class Argument:
    """A condition on one argument; `fits` and `fails` are values for examples."""

    pointer: str
    constraint: Constraint
    fits: object
    fails: object

    def negated(self) -> Argument:
        """Return the opposite."""
        given = self.constraint
        said = given.model_dump(by_alias=True, exclude_unset=True) | {"not": not given.negated}
        if not said["not"]:
            del said["not"]
        opposite = Constraint.model_validate(said)
        return Argument(self.pointer, opposite, self.fails, self.fits)


@dataclass(frozen=True, slots=True)
class Origin:
    """A condition on where one argument's value came from."""

    pointer: str
    kinds: tuple[SourceKind, ...]

    def negated(self) -> Origin:
        """Return the opposite."""
        return replace(self, kinds=tuple(each for each in SOURCES if each not in self.kinds))


Condition = Expression | Argument | Origin


@dataclass(frozen=True, slots=True)
class Exceptions:
    """When the sentence does not hold: if one of them does, or with `together` if all do."""

    conditions: tuple[Condition, ...]
    together: bool = False


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence, understood."""

    text: str
    effect: RuleEffect
    what: tuple[Selector, ...]
    given: tuple[Condition, ...] = ()
    exceptions: tuple[Exceptions, ...] = ()
    but: tuple[Selector, ...] = ()
    data: tuple[DataClass, ...] = ()
    priority: int = 0
    notes: tuple[str, ...] = field(default=())
