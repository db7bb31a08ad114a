"""Turns every failure into one sentence on stderr and a documented exit code.

The only place of a command that translates errors; the libraries' error trees carry the codes.
"""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup

EXIT_OK = 0
EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE, what other programs end with in `agentfs log | head -1`

_NARROW = 52

# Typer carries its own copy of click, so the public way to the class of all usage errors is this.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


class Refusal(Exception):
    """A command declines to act; the message names the thing and the way out."""

    def __init__(self, message: str, exit_code: int = EXIT_ERROR) -> None:
        """Keep the sentence and the exit code that goes with it."""
        super().__init__(message)
        self.exit_code = exit_code


class CommandGroup(TyperGroup):
    """The command group whose failures are sentences instead of tracebacks or boxes.

    Another program makes a class of its own with its name and `describe`.
    """

    program: ClassVar[str] = "agentfs"
    interrupted: ClassVar[str] = (
        "interrupted; the volume is whole, without the operation that was under way"
        " (put, import and apply keep what was complete)"
    )

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run the command line and leave with its exit code."""
        run = super().main
        # Help is never narrower than 50 columns by itself, whatever the terminal is.
        if (columns := shutil.get_terminal_size().columns) < _NARROW:
            extra.setdefault("terminal_width", columns)
        try:
            code = self._guarded(lambda: run(*args, standalone_mode=False, **extra))
        except KeyboardInterrupt:
            code = self._say(self.interrupted, EXIT_INTERRUPTED)
        if standalone_mode:
            sys.exit(code)
        return code

    def _guarded(self, run: Callable[[], Any]) -> int:
        _print_names_as_they_are()
        try:
            result = run()
            if result == EXIT_INTERRUPTED:  # typer turns Ctrl-C into this result
                raise KeyboardInterrupt
            sys.stdout.flush()
            return result if isinstance(result, int) else EXIT_OK
        except (BrokenPipeError, SystemExit) as error:
            return _quiet_pipe(error)
        except typer.Abort as error:
            raise KeyboardInterrupt from error
        except _UsageError as error:
            return self._say_usage(error)
        except Exception as error:
            if os.environ.get(self._debug_variable()):
                raise
            return self._say(*self.describe(error))

    def _debug_variable(self) -> str:
        return f"{self.program.upper()}_DEBUG"

    def _say(self, sentence: str, code: int) -> int:
        # What the error is about is not lost behind a pipe or disk that has gone as well.
        with suppress(OSError):
            sys.stdout.flush()
        print(f"{self.program}: {sentence}", file=sys.stderr)
        return code

    def _say_usage(self, error: Any) -> int:
        message: str = error.format_message()
        if message.lower().startswith("usage:"):  # called without a command: it is the help
            print(message, file=sys.stderr)
            return EXIT_USAGE
        context = getattr(error, "ctx", None)
        command = context.command_path if context else self.program
        return self._say(f"{message.rstrip('.')}; see `{command} --help`", EXIT_USAGE)

    def describe(self, error: Exception) -> tuple[str, int]:
        """Return one sentence and the exit code for an error of a library, the host or ours."""
        from agentfs.errors import AgentFSError  # noqa: PLC0415 - not needed for --help

        if isinstance(error, (AgentFSError, Refusal)):
            return str(error), error.exit_code
        if isinstance(error, OSError):
            return _describe_host(error), EXIT_ERROR
        return (
            f"internal error ({type(error).__name__}: {error}); "
            f"run again with {self._debug_variable()}=1 for the traceback and report it",
            EXIT_ERROR,
        )


def _describe_host(error: OSError) -> str:
    if error.filename is None:
        return f"the system refused: {error.strerror or error}"
    reason = (error.strerror or type(error).__name__).lower()
    return f"cannot use host path {error.filename!r}: {reason}"


def _print_names_as_they_are() -> None:
    """Let names in a volume, which are bytes, out even where they are not UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="surrogateescape")


def _quiet_pipe(error: BaseException) -> int:
    """End without a word when the reader of our output has gone away."""
    if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
        return error.code if isinstance(error.code, int) else EXIT_ERROR
    # The interpreter flushes stdout once more at exit and would complain about the same pipe.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_BROKEN_PIPE
