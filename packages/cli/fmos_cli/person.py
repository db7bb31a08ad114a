"""Who sits at this terminal: the name under which the journal keeps a person's decision."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

_NOBODY_LOGGED_IN = 2**32 - 1


def person() -> str:
    """Return the user who logged in, also under sudo, else the process's user.

    Never from the environment: by a variable one person would become two.
    """
    number = os.getuid()
    try:
        logged_in = int(Path("/proc/self/loginuid").read_text(encoding="ascii"))
        number = number if logged_in >= _NOBODY_LOGGED_IN else logged_in
    except (OSError, ValueError):  # not Linux
        pass
    try:
        return f"user:{pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"uid:{number}"
