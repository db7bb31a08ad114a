"""What the global options of one call say, and how its commands reach the home."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fmos.runtime.kernel import Kernel


@dataclass(frozen=True, slots=True)
class Session:
    """The home that `--home` names, else $FMOS_HOME, else ~/.fmos."""

    home: Path

    @classmethod
    def of(cls, option: Path | None) -> Session:
        """Return the session for the value of `--home`."""
        from fmos.config import Home  # noqa: PLC0415 - keeps --help fast

        return cls((option or Home.default_path(os.environ)).expanduser().absolute())

    def open(self) -> Kernel:
        """Open the home, making it when it is not there."""
        from fmos.runtime.kernel import Kernel  # noqa: PLC0415 - keeps --help fast

        return Kernel.open(self.home)
