"""The doctor's checks of the host: versions, optional parts, clients' configuration, umask."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from fmos.care.doctor import Check, Finding, Patient, error, note, ok, warning

_OLDEST_PYTHON = (3, 11)
# Each with what it is needed for; the upper bound, if any, is the first version that is too new.
_REQUIRED = {
    "apsw": ("3.51", ""), "pydantic": ("2.12", "3"), "zstandard": ("0.22", ""),
    "cryptography": ("43", ""), "typer": ("0.20", "0.29"), "PyYAML": ("6.0.1", ""),
    "mcp": ("2.2", "3"), "langgraph": ("1.2", "2"), "langchain": ("1.4", "2"),
}  # fmt: skip
_OPTIONAL = {"mcp", "langgraph", "langchain"}
# From here on SQLite survives that a process closes a second handle on a database's file.
_GUARDED_SQLITE = (3, 51)
_TRIAL_S = 5.0


class Extra(NamedTuple):
    """An optional part: its extra, what it is for, and the modules that it is."""

    name: str
    purpose: str
    modules: tuple[str, ...]


EXTRAS = (
    Extra("servers", "the MCP servers and `fmos serve`", ("mcp", "uvicorn", "httptools")),
    Extra("servers", "exact counts of tokens", ("wordllama", "tokenizers")),
    Extra("langgraph", "the LangGraph adapter", ("langgraph", "langchain")),
    Extra("otel", "traces and metrics", ("opentelemetry.sdk", "opentelemetry.exporter")),
    Extra("analytics", "`fmos report`", ("duckdb", "matplotlib")),
    Extra("verifiers", "the verifiers of units and SQL", ("pint", "sqlglot")),
    Extra("learn", "training of learned traps", ("sklearn",)),
    Extra("fsspec", "agentfs:// paths", ("fsspec",)),
)  # fmt: skip


def versions(patient: Patient) -> Iterator[Finding]:
    """Are Python, SQLite and the packages new enough and not too new."""
    if sys.version_info[:2] < _OLDEST_PYTHON:
        yield error("python", f"it is {sys.version.split()[0]}", "use Python 3.11 or newer")
    faults = 0
    for name, (lowest, too_new) in _REQUIRED.items():
        for finding in _package(name, lowest, too_new):
            faults += 1
            yield finding
    sqlite = apsw.sqlite_lib_version()
    if _numbers(sqlite) < _GUARDED_SQLITE:
        yield note("sqlite", f"it is {sqlite}", "`pip install -U apsw` brings a newer one")
    if not faults:
        yield ok("versions", f"fmos {patient.version}, Python {sys.version.split()[0]},"
                             f" SQLite {sqlite}, apsw {apsw.apsw_version()}")  # fmt: skip


def _package(name: str, lowest: str, too_new: str) -> Iterator[Finding]:
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        if name not in _OPTIONAL and not (name == "apsw" and hasattr(apsw, "mc_version")):
            yield error(name, "it is not installed", "install fmos again: `pip install fmos`")
        return
    if _numbers(found) < _numbers(lowest):
        yield error(
            name, f"it is {found}, older than {lowest}", f'`pip install "{name}>={lowest}"`'
        )
    elif too_new and _numbers(found) >= _numbers(too_new):
        yield error(name, f"it is {found}, and fmos needs one before {too_new}",
                    f'`pip install "{name}>={lowest},<{too_new}"`')  # fmt: skip


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:4])


def optional_parts(patient: Patient) -> Iterator[Finding]:
    """Which optional parts are installed and work."""
    for extra in EXTRAS:
        yield _extra(extra, patient.deep)
    yield _vocabulary()
    yield _fuse()
    yield _sandbox()
    encrypted = hasattr(apsw, "mc_version")
    said = "volumes can be encrypted" if encrypted else "not installed: volumes are not encrypted"
    yield ok("encryption", said)


def _extra(extra: Extra, deep: bool) -> Finding:
    missing = [name for name in extra.modules if not _is_installed(name)]
    install = f'`pip install "fmos[{extra.name}]"` for {extra.purpose}'
    thing = f"fmos[{extra.name}]"
    if len(missing) == len(extra.modules):
        return note(thing, f"not installed: {extra.purpose}", install)
    if missing:
        return warning(thing, f"{', '.join(missing)} cannot be found", install)
    if deep:
        broken = _trial([sys.executable, "-c", f"import {', '.join(extra.modules)}"], 60)
        if broken:
            return warning(thing, f"it cannot be imported: {broken}", install)
    return ok(thing, extra.purpose)


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _vocabulary() -> Finding:
    from fmos.tokens import ByteCounter, default_counter  # noqa: PLC0415 - loads a vocabulary

    try:
        counter = default_counter()
        number = counter.count("one two three")
    except Exception as failure:
        return warning(
            "tokens", f"the vocabulary cannot be loaded: {failure}", '`pip install "fmos[servers]"`'
        )
    if isinstance(counter, ByteCounter):
        return note("tokens", "counted by bytes", '`pip install "fmos[servers]"` counts exactly')
    return ok("tokens", f"the vocabulary loads ('one two three' has at most {number})")


def _fuse() -> Finding:
    if not os.path.exists("/dev/fuse"):
        return note("fuse", "no /dev/fuse: `agentfs mount` does not work; all else does")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return note("fuse", "/dev/fuse is not yours to use", "ask for its group, or do not mount")
    if os.geteuid() and shutil.which("fusermount3") is None:
        return note("fuse", "fusermount3 is not installed", "`apt-get install fuse3`")
    return ok("fuse", "mounts work")


def _sandbox() -> Finding:
    program = shutil.which("bwrap")
    if program is None:
        return note(
            "sandbox", "bubblewrap is not installed: commands of agents are not confined by it",
            "`apt-get install bubblewrap`",
        )  # fmt: skip
    broken = _trial([program, "--ro-bind", "/", "/", "true"], _TRIAL_S)
    if broken:
        return warning("sandbox", f"bubblewrap does not work: {broken}",
                       "allow user namespaces (kernel.unprivileged_userns_clone)")  # fmt: skip
    return ok("sandbox", "bubblewrap works")


def _trial(command: list[str], limit_s: float) -> str:
    """Run a command and return what is wrong with it, if anything."""
    try:
        ran = subprocess.run(
            command, capture_output=True, text=True, timeout=limit_s, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as failure:
        return str(failure)
    if not ran.returncode:
        return ""
    lines = ran.stderr.strip().splitlines()
    return lines[-1] if lines else f"it ended with {ran.returncode}"


def umask(patient: Patient) -> Iterator[Finding]:
    """Would files that commands make be writable by everybody."""
    try:
        text = Path("/proc/self/status").read_text(encoding="utf-8")
        value = int(text.split("Umask:")[1].split()[0], 8)
    except (OSError, IndexError, ValueError):
        return
    if value & 0o002:
        yield ok("umask", f"{value:04o}")
    else:
        yield warning("umask", f"{value:04o} lets everybody write what your commands make",
                      "put `umask 022` into your shell's start file")  # fmt: skip


class Client(NamedTuple):
    """A program with MCP servers in its configuration, and under which keys it has them."""

    name: str
    file: str
    key: str = "mcpServers"


IN_HOME = (
    Client("Claude Code", ".claude.json"),
    Client("Claude Desktop", ".config/Claude/claude_desktop_config.json"),
    Client("Claude Desktop", "Library/Application Support/Claude/claude_desktop_config.json"),
    Client("Cursor", ".cursor/mcp.json"),
    Client("VS Code", ".config/Code/User/mcp.json", "servers"),
    Client("VS Code", "Library/Application Support/Code/User/mcp.json", "servers"),
)
IN_PROJECT = (
    Client("Claude Code", ".mcp.json"),
    Client("Cursor", ".cursor/mcp.json"),
    Client("VS Code", ".vscode/mcp.json", "servers"),
)
_OURS = re.compile(r"(^|[/\\])fmos(-[a-z-]+)?(\.exe)?$")
_MODULES = re.compile(r"^fmos_(memory|context|trust|budget|cli)$")


def clients(patient: Patient) -> Iterator[Finding]:
    """Do the clients that name FMOS start a command that is there, on this home."""
    found = 0
    for folder, known in ((patient.user_home, IN_HOME), (patient.project, IN_PROJECT)):
        for client in known:
            path = folder / client.file
            if not path.is_file():
                continue
            for finding in _configured(client, path, patient):
                found += 1
                yield finding
    if not found:
        yield ok("clients", "none of the known clients has an entry of fmos")


def _configured(client: Client, path: Path, patient: Patient) -> Iterator[Finding]:
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as failure:
        yield warning(str(path), f"{client.name} has a configuration that is no JSON ({failure})",
                      "correct it; nothing in it counts until then")  # fmt: skip
        return
    for name, entry in _entries(document, client.key):
        thing = f"{path} ({name})"
        faults = list(_entry(thing, entry, patient))
        yield from faults or [ok(thing, f"{client.name} starts it on this home")]


def _entries(document: Any, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the entries of ours, also those that Claude Code keeps per project."""
    if not isinstance(document, dict):
        return
    servers = document.get(key)
    for name, entry in servers.items() if isinstance(servers, dict) else ():
        if isinstance(entry, dict) and _is_ours(entry):
            yield str(name), entry
    projects = document.get("projects")
    for folder, project in projects.items() if isinstance(projects, dict) else ():
        for name, entry in _entries(project, key):
            yield f"{name} in {folder}", entry


def _is_ours(entry: Mapping[str, Any]) -> bool:
    command, arguments = entry.get("command"), entry.get("args")
    words = [command, *(arguments if isinstance(arguments, list) else [])]
    return any(isinstance(w, str) and (_OURS.search(w) or _MODULES.match(w)) for w in words)


def _entry(thing: str, entry: Mapping[str, Any], patient: Patient) -> Iterator[Finding]:
    command = entry.get("command")
    if not isinstance(command, str):
        yield error(thing, "it has no command", "write the absolute path of the command there")
    elif not os.path.isabs(command):
        found = shutil.which(command, path=patient.environ.get("PATH"))
        yield (
            warning(thing, f"{command!r} is not absolute: clients start with another PATH",
                    f"write {found!r} there")
            if found
            else error(thing, f"there is no command {command!r}", 'install fmos, or write its path')
        )  # fmt: skip
    elif not os.access(command, os.X_OK):
        yield error(thing, f"there is no command {command!r}", "write the path of the one there is")
    environ = entry.get("env")
    home = environ.get("FMOS_HOME") if isinstance(environ, dict) else None
    yield from _pinned(thing, home, patient.home)


def _pinned(thing: str, home: object, own: Path) -> Iterator[Finding]:
    remedy = f'write "env": {{"FMOS_HOME": "{own}"}} there'
    if not isinstance(home, str) or not home:
        yield warning(thing, "it does not say which home to use (FMOS_HOME)", remedy)
    elif not os.path.isabs(home):
        yield error(thing, f"its FMOS_HOME {home!r} is not absolute", remedy)
    elif os.path.realpath(home) != os.path.realpath(own):
        yield warning(thing, f"it uses another home, {home!r}", f"{remedy}, if this one is meant")


CHECKS = (
    Check("versions", versions, needs_home=False),
    Check("optional parts", optional_parts, long=True, needs_home=False),
    Check("clients", clients, needs_home=False),
    Check("umask", umask, needs_home=False),
)
