"""What `fmos` adds to the failures of `agentfs`: its name and the errors of its own library."""

from __future__ import annotations

import agentfs.cli.failures as agentfs_failures


class CommandGroup(agentfs_failures.CommandGroup):
    """The command group whose failures are sentences instead of tracebacks or boxes."""

    program = "fmos"
    interrupted = "interrupted"

    def describe(self, error: Exception) -> tuple[str, int]:
        """Return one sentence and the exit code for an error of the libraries, the host or ours."""
        from fmos.errors import FmosError  # noqa: PLC0415 - not needed for --help

        if isinstance(error, FmosError):
            return str(error), error.exit_code
        if type(error).__module__ == "apsw":
            from fmos.serving.failures import foreseen  # noqa: PLC0415 - loads the engine

            known = foreseen(error)
            if known is not None:
                return str(known), known.exit_code
        return super().describe(error)
