"""Actors by name: `module:function`, or a command that reads JSON on stdin and writes it on stdout.

A command gets `{"run", "step", "agent", "idempotency_key", "attempt", "inputs", "capabilities",
"account", "undo", "outputs"}` and answers `{"outputs": {...}, "usage": {...}, "files": {...}}`, of
which all may be left out. Exit code 0: done. 75 (EX_TEMPFAIL): nothing happened, try again. Any
other: it failed, and nothing happened. Killed by a signal, or late: in doubt.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from fmos.errors import ArgumentError
from fmos.steps.model import Json, NotDone
from fmos.workflow.actors import Actor, Retryable, StepCall
from fmos.workflow.model import RunOptions

#: What a command exits with to be tried again (sysexits.h).
EX_TEMPFAIL = 75

_PYTHON = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_MAX_SHOWN = 500
_PR_SET_PDEATHSIG = 1
_PRIVATE = ("FMOS_HOME",)


@dataclass(frozen=True, slots=True)
class Command:
    """A command as an actor, with the rights of who runs the workflow."""

    words: tuple[str, ...]
    folder: str
    undo: bool = False

    def __call__(self, call: StepCall) -> Mapping[str, Json]:
        """Run it once, and return the outputs that it tells."""
        text = self._run(call)
        call.acted = True
        answer = self._answer(text)
        call.report({str(name): int(amount) for name, amount in answer.get("usage", {}).items()})
        for path, text in answer.get("files", {}).items():
            call.write(path, text)
        return answer.get("outputs", {})

    def _run(self, call: StepCall) -> str:
        try:
            done = subprocess.run(
                self.words,
                input=json.dumps(self._asked(call)),
                capture_output=True,
                text=True,
                cwd=self.folder or None,
                env={name: text for name, text in os.environ.items() if name not in _PRIVATE},
                timeout=call.contract.budgets.wall_seconds,
                preexec_fn=_dies_with_us,
                check=False,
            )
        except OSError as error:
            raise NotDone(f"{self.words[0]!r} cannot be started: {error.strerror}") from error
        if done.returncode == 0:
            return done.stdout
        said = (done.stderr.strip().splitlines() or ["it says nothing"])[-1][:_MAX_SHOWN]
        if done.returncode == EX_TEMPFAIL:
            raise Retryable(f"{self.words[0]!r} asks for another attempt: {said}")
        if done.returncode > 0:
            raise NotDone(f"{self.words[0]!r} exited with {done.returncode}: {said}")
        name = signal.Signals(-done.returncode).name
        raise ChildProcessError(f"{self.words[0]!r} was ended by {name}")

    def _asked(self, call: StepCall) -> dict[str, Json]:
        granted = [name for name in call.contract.capabilities if call.contract.grants(name)]
        return {
            "run": call.run,
            "step": call.step,
            "agent": call.agent,
            "idempotency_key": call.idempotency_key,
            "attempt": call.attempt,
            "inputs": call.inputs,
            "capabilities": granted,
            "account": str(call.account),
            "undo": self.undo,
            "outputs": call.outputs,
        }

    def _answer(self, text: str) -> dict[str, Any]:
        if not text.strip():
            return {}
        try:
            answer = json.loads(text)
        except ValueError as error:
            raise ValueError(f"{self.words[0]!r} wrote no JSON: {text[:80]!r}") from error
        known = {"outputs", "usage", "files"}
        fine = isinstance(answer, dict) and answer.keys() <= known
        if not fine or not all(isinstance(each, dict) for each in answer.values()):
            raise ValueError(
                f"{self.words[0]!r} must write an object with {', '.join(sorted(known))}"
            )
        return answer


def actors_of(options: RunOptions) -> dict[str, Actor]:
    """Return the actors that the options of a run name.

    Raises:
        ArgumentError: naming what cannot be found, is no actor, or names no agent of `actors`.
    """
    for what, names in (("undo", options.undo), ("effects", options.effects)):
        for name in names.keys() - options.actors.keys():
            raise ArgumentError(
                f"{what} names {name!r}, which has no actor", hint=f"add `--actor {name}=...`"
            )
    return {name: _actor(name, spec, options) for name, spec in options.actors.items()}


def _actor(name: str, spec: str, options: RunOptions) -> Actor:
    found = _work(spec, options.folder, undo=False)
    actor = found if isinstance(found, Actor) else Actor(found)
    if name in options.undo:
        undo = _work(options.undo[name], options.folder, undo=True)
        actor = replace(actor, compensate=undo.work if isinstance(undo, Actor) else undo)
    if name in options.effects:
        actor = replace(actor, effect=options.effects[name])
    return actor


def _work(spec: str, folder: str, *, undo: bool) -> Actor | Callable[[StepCall], Any]:
    if _PYTHON.fullmatch(spec):
        return _imported(spec, folder)
    try:
        words = tuple(shlex.split(spec))
    except ValueError as error:
        raise ArgumentError(f"{spec!r} is not a command: {error}") from error
    if not words:
        raise ArgumentError("an actor is empty", hint="write NAME=module:function or NAME=COMMAND")
    return Command(words, folder, undo)


def _imported(spec: str, folder: str) -> Actor | Callable[[StepCall], Any]:
    module, _, name = spec.partition(":")
    if folder and folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ArgumentError(
            f"the actor {spec!r} cannot be imported: {error}",
            hint=f"name a function of a module in {folder or 'the import path'!r}",
        ) from error
    if not isinstance(found, Actor) and not callable(found):
        raise ArgumentError(f"{spec!r} is {type(found).__name__}, neither function nor Actor")
    return found


def _libc() -> Any:
    with suppress(OSError, AttributeError):
        return ctypes.CDLL(None).prctl
    return None


_PRCTL = _libc()


def _dies_with_us() -> None:
    """Let the kernel end the command with its runner: else it would act beside the next attempt."""
    if _PRCTL is not None:
        _PRCTL(_PR_SET_PDEATHSIG, signal.SIGKILL)
