"""Ctrl-C ends `fmos` and `agentfs` with a word and 130, from the first moment on."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest

# Says when the command has taken Ctrl-C over: what the interpreter does before is its own.
_BEGIN = """
import signal, sys
from fmos_cli.begin import {0}
install = signal.signal
def installed(*arguments):
    signal.signal = install
    found = install(*arguments)
    print("up", flush=True)
    return found
signal.signal = installed
{0}()
"""


@pytest.mark.parametrize("program", ["fmos", "agentfs"])
def test_ctrl_c_at_an_early_moment_ends_in_a_word(program: str) -> None:
    """While the command loads there is no traceback, whenever it comes."""
    moments = random.Random(7)
    codes: list[int] = []
    for _ in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", _BEGIN.format(program), "--help"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            until = time.monotonic() + moments.uniform(0.01, 0.4)
            while time.monotonic() < until and process.poll() is None:
                pass
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=60)[1]
        assert "Traceback" not in said
        assert process.returncode in (0, 130, -signal.SIGINT), said
        codes.append(process.returncode)
        if process.returncode == 130:
            assert said == f"{program}: interrupted\n"
    assert 130 in codes
