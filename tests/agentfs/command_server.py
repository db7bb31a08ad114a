"""Runs the `agentfs` command for a shell without starting an interpreter for each call.

`python command_server.py FOLDER` listens on FOLDER/socket and puts a shim FOLDER/agentfs beside it.
Each call of the shim is a process of its own, forked from one that has loaded the code, with the
caller's arguments, environment, working directory, stdin, stdout and stderr; its exit code returns.
"""

import io
import os
import signal
import socket
import subprocess
import sys
import traceback
from ast import literal_eval
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import typer

Command = Callable[..., Any]

# Only modules that are loaded anyway or are part of the interpreter: it runs a hundred times.
_CLIENT = """#!{python} -IS
import _socket, posix, sys
server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
server.connect({address!r})
call = repr((sys.argv[1:], dict(posix.environ), posix.getcwd())).encode()
streams = b"".join(each.to_bytes(4, sys.byteorder) for each in (0, 1, 2))
rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)]
server.sendmsg([len(call).to_bytes(4, "big")], rights)
server.sendall(call)
sys.exit(server.recv(1)[0])
"""


def serve(folder: Path) -> None:
    """Answer calls until killed; one call is made here first, so that all is loaded."""
    import agentfs.patch
    import agentfs.versions  # noqa: F401 - what calls need, loaded once
    from agentfs.cli.main import app

    command = typer.main.get_command(app)
    with redirect_stdout(io.StringIO()):
        for arguments in (["init"], ["ls", "-l"]):
            command(["-f", str(folder / "first.afs"), *arguments], "agentfs", standalone_mode=False)

    address = str(folder / "socket")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        shim = folder / "agentfs"
        shim.write_text(_CLIENT.format(python=sys.executable, address=address), encoding="utf-8")
        shim.chmod(0o755)
        print("ready", flush=True)
        while True:
            caller, _ = listener.accept()
            if os.fork() == 0:
                _answer(command, caller)
            caller.close()


def _answer(command: Command, caller: socket.socket) -> None:
    code = 70
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        head, descriptors, _, _ = socket.recv_fds(caller, 4, 3)
        arguments, environment, here = literal_eval(
            _exactly(caller, int.from_bytes(head, "big")).decode()
        )
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
        os.chdir(here)
        os.environ.clear()
        os.environb.update(environment)
        code = _run(command, arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        caller.sendall(bytes([code]))
        os._exit(code)


def _exactly(caller: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        found += caller.recv(count - len(found))
    return found


def _run(command: Command, arguments: list[str]) -> int:
    try:
        command(arguments, "agentfs")
    except SystemExit as end:
        sys.stdout.flush()
        return end.code if isinstance(end.code, int) else 1
    return 0


@contextmanager
def started(folder: Path) -> Iterator[Path]:
    """Make a folder for PATH with an `agentfs` that runs the code under test, installed or not."""
    import agentfs

    folder.mkdir()
    package_root = Path(str(agentfs.__file__)).parents[1]
    with subprocess.Popen(
        [sys.executable, __file__, str(folder)],
        env=os.environ | {"PYTHONPATH": str(package_root)},
        stdout=subprocess.PIPE,
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        try:
            yield folder
        finally:
            server.kill()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
