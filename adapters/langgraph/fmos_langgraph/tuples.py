"""The tuple that `list` yields: its values become objects when somebody looks at them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, SupportsIndex, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    PendingWrite,
)


class StoredTuple(CheckpointTuple):
    """A `CheckpointTuple` that turns its bytes into objects once, on the first look.

    A history is most often read for ids and metadata, and deserialising takes most of the time.
    """

    _load: Callable[[], CheckpointTuple]
    _loaded: CheckpointTuple | None

    def __new__(
        cls, config: RunnableConfig, metadata: CheckpointMetadata,
        parent_config: RunnableConfig | None, load: Callable[[], CheckpointTuple],
    ) -> StoredTuple:  # fmt: skip
        """Take what is known at once, and what makes the whole tuple."""
        self = super().__new__(cls, config, cast(Checkpoint, None), metadata, parent_config)
        self._load = load
        self._loaded = None
        return self

    def whole(self) -> CheckpointTuple:
        """Return the plain tuple."""
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    @property
    def checkpoint(self) -> Checkpoint:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The checkpoint with its values."""
        return self.whole().checkpoint

    @property
    def pending_writes(  # pyright: ignore[reportIncompatibleVariableOverride]
        self,
    ) -> list[PendingWrite] | None:
        """The writes that wait on the checkpoint."""
        return self.whole().pending_writes

    def __iter__(self) -> Iterator[Any]:
        return iter(self.whole())

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        return self.whole()[index]

    def __contains__(self, item: object) -> bool:
        return item in self.whole()

    def count(self, value: Any) -> int:
        """Return how many of the five fields equal a value."""
        return self.whole().count(value)

    def index(self, value: Any, *limits: SupportsIndex) -> int:
        """Return which of the five fields equals a value first."""
        return self.whole().index(value, *limits)

    # Named tuples make theirs with the class of `self`, which takes other arguments here.
    def _replace(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, **fields: Any
    ) -> CheckpointTuple:
        return self.whole()._replace(**fields)

    def __eq__(self, other: object) -> bool:
        return self.whole() == (other.whole() if isinstance(other, StoredTuple) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.whole())

    def __repr__(self) -> str:
        return repr(self.whole())

    def __reduce__(self) -> tuple[Any, ...]:
        return CheckpointTuple, tuple(self.whole())
