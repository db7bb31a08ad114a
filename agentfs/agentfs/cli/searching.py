"""Commands that go through the tree: tree, find, grep, du."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from agentfs.cli.failures import EXIT_ERROR, EXIT_USAGE, Refusal
from agentfs.cli.listing import facts
from agentfs.cli.render import AtOption, JsonOption, count, emit_lines, emit_rows, progress, safe
from agentfs.cli.render import size as shown_size

if TYPE_CHECKING:
    from agentfs import AgentFS
    from agentfs.types import DirEntry, Match

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
PathArgument = Annotated[str, typer.Argument(help="Where to begin.")]


class Kind(StrEnum):
    """What find lets through."""

    FILE = "f"
    DIRECTORY = "d"
    SYMLINK = "l"


_KINDS = {Kind.FILE: "file", Kind.DIRECTORY: "directory", Kind.SYMLINK: "symlink"}


class Step(NamedTuple):
    """One entry below a directory; `last` says for each level whether no name follows there."""

    entry: DirEntry
    last: tuple[bool, ...]


def below(fs: AgentFS, path: str, depth: int | None = None) -> Iterator[Step]:
    """Yield what is below a directory, sorted, each directory before what it holds."""
    waiting = _steps(fs, path, ())
    while waiting:
        step = waiting.pop()
        yield step
        if step.entry.stat.is_dir and (depth is None or len(step.last) < depth):
            waiting += _steps(fs, step.entry.path, step.last)


def _steps(fs: AgentFS, path: str, last: tuple[bool, ...]) -> list[Step]:
    found = fs.scandir(path)
    return [Step(each, (*last, each is found[-1])) for each in reversed(found)]


def tree(
    context: typer.Context,
    path: PathArgument = "/",
    depth: Annotated[
        int | None, typer.Option("-L", "--depth", min=1, help="So many levels only.")
    ] = None,
    at: AtOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw what is at and below a directory. JSON: [{path, kind, mode, size, mtime_ns}]."""
    with context.obj.look(at) as fs:
        steps = below(fs, path, depth)
        if as_json:
            emit_rows(facts(fs, each.entry.path, each.entry.stat) for each in steps)
            return
        directories = files = 0
        emit_lines([safe(path)])
        for step in steps:
            directories += step.entry.stat.is_dir
            files += not step.entry.stat.is_dir
            emit_lines([_branch_line(fs, step)])
    emit_lines(["", f"{count(directories, 'directory')}, {count(files, 'file')}"])


def _branch_line(fs: AgentFS, step: Step) -> str:
    bars = "".join("    " if last else "│   " for last in step.last[:-1])
    corner = "└── " if step.last[-1] else "├── "
    entry = step.entry
    arrow = f" -> {safe(fs.readlink(entry.path))}" if entry.stat.is_symlink else ""
    return f"{bars}{corner}{safe(entry.name)}{'/' if entry.stat.is_dir else ''}{arrow}"


def find(
    context: typer.Context,
    path: PathArgument = "/",
    name: Annotated[
        str | None, typer.Option("--name", help="Names that match this pattern, as '*.py'.")
    ] = None,
    kind: Annotated[
        Kind | None, typer.Option("--type", help="f: files, d: directories, l: links.")
    ] = None,
    larger: Annotated[
        str | None, typer.Option("--larger", metavar="SIZE", help="Files above 10, 10k, 10M.")
    ] = None,
    smaller: Annotated[
        str | None, typer.Option("--smaller", metavar="SIZE", help="Files below a size.")
    ] = None,
    print0: Annotated[
        bool, typer.Option("-0", "--print0", help="End names with NUL, for `xargs -0`.")
    ] = False,
    at: AtOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the paths below a directory that pass all filters. JSON: as of tree."""
    wanted = _filter(name, kind, larger, smaller)
    with context.obj.look(at) as fs, progress("find") as report:
        steps = report.counting(below(fs, path), "names")
        found = (each.entry for each in steps if wanted(each.entry))
        if as_json:
            emit_rows(facts(fs, each.path, each.stat) for each in found)
        elif print0:
            for each in found:
                sys.stdout.write(f"{each.path}\0")
        else:
            emit_lines(safe(each.path) for each in found)


def _filter(
    name: str | None, kind: Kind | None, larger: str | None, smaller: str | None
) -> Callable[[DirEntry], bool]:
    tests: list[Callable[[DirEntry], bool]] = []
    if name is not None:
        tests.append(lambda each: fnmatchcase(each.name, name))
    if kind is not None:
        tests.append(lambda each: each.stat.kind == _KINDS[kind])
    if larger is not None:
        low = byte_count(larger)
        tests.append(lambda each: each.stat.is_file and each.stat.size > low)
    if smaller is not None:
        high = byte_count(smaller)
        tests.append(lambda each: each.stat.is_file and each.stat.size < high)
    return lambda each: all(test(each) for test in tests)


def byte_count(text: str) -> int:
    """Return the bytes that `10`, `10k`, `10M` or `10GiB` stand for."""
    matched = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)(?:i?b)?", text.strip(), re.IGNORECASE)
    if matched is None:
        raise Refusal(f"{text!r} is no size; write it as 500, 10k, 10M or 2G", EXIT_USAGE)
    return int(float(matched[1]) * _UNITS[matched[2].lower()])


def grep(
    context: typer.Context,
    pattern: Annotated[str, typer.Argument(help="A Python regular expression.")],
    path: Annotated[str, typer.Argument(help="A file or directory.")] = "/",
    ignore_case: Annotated[bool, typer.Option("-i", help="Upper and lower case alike.")] = False,
    fixed: Annotated[bool, typer.Option("-F", help="A plain text, not an expression.")] = False,
    names_only: Annotated[bool, typer.Option("-l", help="Only the paths.")] = False,
    at: AtOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the lines of text files that match; exit code 1: none. JSON: [{path, line, text}]."""
    if fixed:
        pattern = re.escape(pattern)
    if ignore_case:
        pattern = f"(?i){pattern}"
    with context.obj.look(at) as fs:
        found = fs.grep(pattern, path)
        if names_only:
            found = _first_of_each(found)
        if as_json:
            number = emit_rows(_match_facts(each, names_only) for each in found)
        else:
            number = emit_lines(_match_line(each, names_only) for each in found)
    if not number:
        raise typer.Exit(EXIT_ERROR)


def _first_of_each(found: Iterator[Match]) -> Iterator[Match]:
    last = None
    for each in found:
        if each.path != last:
            yield each
        last = each.path


def _match_line(found: Match, names_only: bool) -> str:
    where = safe(found.path)
    return where if names_only else f"{where}:{found.line}:{safe(found.text)}"


def _match_facts(found: Match, names_only: bool) -> dict[str, Any]:
    where = {"path": found.path}
    return where if names_only else {**where, "line": found.line, "text": found.text}


def du(
    context: typer.Context,
    path: PathArgument = "/",
    summary: Annotated[bool, typer.Option("-s", help="Only the sum.")] = False,
    at: AtOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sum up the sizes of files per directory. JSON: [{path, bytes, files}].

    These are the bytes that are read; `stats` says what the volume stores for them.
    """
    with context.obj.look(at) as fs, progress("du") as report:
        sums = _sums(fs, path, lambda steps: report.counting(steps, "names"))
        rows = (each for each in sums if not summary or each.path == path)
        if as_json:
            emit_rows(each._asdict() for each in rows)
        else:
            emit_lines(f"{shown_size(each.bytes):>10}  {safe(each.path)}" for each in rows)


class Sum(NamedTuple):
    """What a directory holds, with all below it."""

    path: str
    bytes: int
    files: int


def _sums(
    fs: AgentFS, path: str, through: Callable[[Iterator[Step]], Iterator[Step]]
) -> Iterator[Sum]:
    """Yield each directory after those in it."""
    top = fs.lstat(path)
    if not top.is_dir:
        yield Sum(path, top.size, 1)
        return
    unfinished = [Sum(path, 0, 0)]
    for step in through(below(fs, path)):
        while len(unfinished) > len(step.last):
            yield _finish(unfinished)
        if step.entry.stat.is_dir:
            unfinished.append(Sum(step.entry.path, 0, 0))
        else:
            _add(unfinished, step.entry.stat.size, 1)
    while len(unfinished) > 1:
        yield _finish(unfinished)
    yield unfinished[0]


def _finish(unfinished: list[Sum]) -> Sum:
    done = unfinished.pop()
    _add(unfinished, done.bytes, done.files)
    return done


def _add(unfinished: list[Sum], size_bytes: int, files: int) -> None:
    last = unfinished[-1]
    unfinished[-1] = Sum(last.path, last.bytes + size_bytes, last.files + files)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(epilog="Example:  agentfs tree /src -L 2")(tree)
    app.command(epilog="Example:  agentfs find /src --name '*.py' --larger 10k")(find)
    app.command(epilog="Example:  agentfs grep -i 'todo|fixme' /src")(grep)
    app.command(epilog="Example:  agentfs du /src -s")(du)
