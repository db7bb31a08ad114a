"""Makes the fresh home of a realisation, and connects to it by its transport."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from agentfs import AgentFS
from fmos.client.client import Client, connect
from fmos.clock import FixedClock
from fmos.equivalence.realisation import Realisation
from fmos.errors import ArgumentError, ServerUnreachableError
from fmos.runtime.kernel import Kernel
from fmos.serving.credentials.tokens import Tokens
from fmos.types import TEMPLATE_BRANCH

_START_S = 30.0
_TOKEN_S = 3600


@dataclass(frozen=True, slots=True)
class Opened:
    """One realisation, ready to run: its client, and its home as a person sees it."""

    realisation: Realisation
    kernel: Kernel
    client: Client
    clock: FixedClock | None


@contextmanager
def opened(realisation: Realisation) -> Iterator[Opened]:
    """Make a new home for a realisation and open it; nothing of it is left afterwards.

    In process the time stands still but for `advance`; a daemon has the machine's.
    """
    with ExitStack() as stack:
        # Short, because a unix socket's path has room for 107 bytes.
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fmos-eq-", dir="/tmp"))
        home = Path(folder)
        realisation.furnish(home)
        clock = FixedClock() if realisation.transport == "inprocess" else None
        kernel = stack.enter_context(_kernel(realisation, home, clock))
        if not realisation.back_end.is_usual:
            _use_back_end(realisation, kernel)
        _begin(realisation, kernel)
        client = stack.enter_context(_client(realisation, home, kernel, stack))
        yield Opened(realisation, kernel, client, clock)


def _kernel(realisation: Realisation, home: Path, clock: FixedClock | None) -> Kernel:
    return Kernel.open(home) if clock is None else realisation.kernel(home, clock)


def _use_back_end(realisation: Realisation, kernel: Kernel) -> None:
    """Let the kernel find the tenant's volume opened as the realisation wants it.

    Raises:
        ArgumentError: for a daemon, which opens its volumes itself.
    """
    if realisation.transport != "inprocess":
        raise ArgumentError(
            f"{realisation.name!r} has a back end of its own and the transport"
            f" {realisation.transport}",
            hint="use `transport: inprocess`",
        )
    back_end, tenant = realisation.back_end, realisation.tenant
    volume = AgentFS.open(
        kernel.home.volume(tenant),
        branch=TEMPLATE_BRANCH,
        system=True,
        principal="fmos",
        durability=back_end.durability,
        key=back_end.key or None,
    )
    # The kernel has no setting for it: a home's volumes are opened alike.
    volumes = kernel._branches._volumes
    volumes[tenant, "normal"] = volumes[tenant, "full"] = volume


def _begin(realisation: Realisation, kernel: Kernel) -> None:
    """Put the files and artefacts in their places before the agent's first operation."""
    template = kernel.volume(realisation.tenant)
    for name, text in realisation.artefacts.items():
        path = f"/.fmos/artefacts/{name.strip('/')}"
        template.mkdir(path.rpartition("/")[0], parents=True, exist_ok=True)
        template.write(path, text)
    files = kernel.agent_files(realisation.principal)
    for path, text in realisation.files.items():
        files.mkdir(path.rpartition("/")[0] or "/", parents=True, exist_ok=True)
        files.write(path, text)


@contextmanager
def _client(
    realisation: Realisation, home: Path, kernel: Kernel, stack: ExitStack
) -> Iterator[Client]:
    who = realisation.principal
    if realisation.transport == "inprocess":
        with connect(who, kernel=kernel) as client:
            yield client
        return
    http = realisation.transport == "http"
    if http:  # a token's holder may be an agent, whose word on its tools a person has to approve
        tools = [tool.model_dump(mode="json") for tool in realisation.tools]
        with connect(who, kernel=kernel) as application:
            application.call("trust_register_tools", {"tools": tools})
    address = stack.enter_context(_daemon(home, http))
    token = Tokens(kernel.database, kernel.clock).issue(who, _TOKEN_S)[0] if http else None
    with connect(who, home=home, transport=address, token=token) as client:
        yield client


@contextmanager
def _daemon(home: Path, http: bool) -> Iterator[str]:
    """Run `fmos serve` on the home and yield the transport's address."""
    options = ["--port", "0"] if http else ["--no-http"]
    command = [sys.executable, "-m", "fmos_cli", "--home", str(home), "serve", *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(os.environ)
    )
    late = threading.Timer(_START_S, process.kill)
    late.start()
    try:
        said = _until_ready(process)
        late.cancel()
        found = re.search(r"http://127\.0\.0\.1:\d+", said)
        yield found[0] if http and found else "daemon"
    finally:
        late.cancel()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=_START_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _until_ready(process: subprocess.Popen[str]) -> str:
    """Return what the daemon prints until it listens."""
    said = ""
    assert process.stdout is not None
    for line in process.stdout:
        said += line
        if line.strip().startswith("unix:"):
            return said
    raise ServerUnreachableError(
        f"`fmos serve` ended before it listened: {said.strip()[-300:]}",
        hint="start it by hand to see why",
    )
