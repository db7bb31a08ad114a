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

    def open(self, *, make: bool = True) -> Kernel:
        """Open the home; one that is not there is made, or refused without `make`."""
        from fmos.config import Home  # noqa: PLC0415 - keeps --help fast
        from fmos.runtime.kernel import Kernel  # noqa: PLC0415

        if not make:
            Home.existing(self.home)
        return Kernel.open(self.home)

    def look(self) -> Kernel:
        """Open the home to look at it: one that is not there is refused, and nothing changes."""
        from fmos.runtime.kernel import Kernel  # noqa: PLC0415 - keeps --help fast

        return Kernel.look(self.home)

    def look_and_sign(self) -> Kernel:
        """Open a home that is there; where it may not be written to, to look at it only."""
        is_open = os.access(self.home, os.W_OK)
        return self.open(make=False) if is_open or not self.home.exists() else self.look()
