"""Where the `fmos` and `agentfs` commands begin: Ctrl-C ends them in a word from the first moment.

Loading a command takes a few tenths of a second; nothing was done until then, so it just ends.
"""

from __future__ import annotations

import os
import signal
from importlib import import_module

_INTERRUPTED = 128 + signal.SIGINT


def fmos() -> None:
    """Run the `fmos` command; the entry point of the package."""
    _run("fmos", "fmos_cli.main")


def agentfs() -> None:
    """Run the `agentfs` command; the entry point of the package."""
    _run("agentfs", "agentfs.cli.main")


def _run(program: str, module: str) -> None:
    """Load a module and call its `main`, which has its own word for Ctrl-C while it works."""

    def leave(*_: object) -> None:
        os.write(2, f"{program}: interrupted\n".encode())
        os._exit(_INTERRUPTED)

    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # behind `&` in a script
        import_module(module).main()
        return
    signal.signal(signal.SIGINT, leave)
    main = import_module(module).main
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        main()
    except KeyboardInterrupt:
        leave()
    finally:  # the interpreter's end takes a moment as well
        signal.signal(signal.SIGINT, leave)
