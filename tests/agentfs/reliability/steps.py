"""Random steps for a volume and its model: made from a seed, run on both, compared."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

from tests.agentfs.reliability.model import Model, Refused, Unpredictable

from agentfs import AgentFS, AgentFSError

NAMES = ("a", "b", "c", "d", "é", "e\u0301")
TEXTS = (b"", b"one", b"two", b"three")
STRATEGIES = ("fail", "ours", "theirs")
WEIGHTS = {
    "write": 20, "append": 8, "truncate": 4, "patch": 5, "mkdir": 12, "remove": 6, "rmdir": 4,
    "rename": 10, "copy": 8, "symlink": 4, "link": 5, "chmod": 3, "setxattr": 3, "removexattr": 2,
    "read": 5, "listdir": 4, "lstat": 4, "readlink": 2, "fork": 3, "snapshot": 2, "restore": 2,
    "restore_paths": 3, "delete_branch": 2, "merge": 5, "gc": 1,
}  # fmt: skip


class Step(NamedTuple):
    """One call on one branch."""

    branch: str
    name: str
    arguments: tuple[Any, ...]


class Steps:
    """Makes steps from a seed and the state of a model."""

    def __init__(self, seed: int) -> None:
        """Begin at a seed."""
        self.chance = random.Random(seed)
        self.root = Model().lines["main"].root

    def next(self, model: Model) -> Step:
        """Return the next step; equal seeds and models give equal steps."""
        name = self.chance.choices(list(WEIGHTS), WEIGHTS.values())[0]  # type: ignore[arg-type]
        branch = self.chance.choice(sorted(model.lines))
        self.root = model.lines[branch].root
        return Step(branch, name, getattr(self, f"_{name}")(model))

    def _path(self) -> str:
        """Return a path: of what is there, beside it, or of nothing; now and then a strange one."""
        if self.chance.random() < 0.02:
            return self.chance.choice(("", "a", "/\0", "/" + "n" * 256, "/.fmos/x", "/"))
        path = self._known() if self.chance.random() < 0.85 else ""
        if not path or self.chance.random() < 0.4:
            depth = self.chance.choice((1, 1, 1, 2))
            above = path.rpartition("/")[0]
            path = above + "".join(f"/{self.chance.choice(NAMES)}" for _ in range(depth))
        return path + self.chance.choice(("", "", "", "", "", "", "/", "/.", "/../a"))

    def _known(self) -> str:
        """Return a path by walking down from the root."""
        path, here = "", self.root
        while here.children and (not path or self.chance.random() < 0.6):
            name = self.chance.choice(sorted(here.children))
            path, here = f"{path}/{name}", here.children[name]
        return path

    def _data(self) -> bytes:
        if self.chance.random() < 0.15:
            return self.chance.randbytes(self.chance.choice((4096, 4097, 30_000)))
        return self.chance.choice(TEXTS)

    def _ref(self, model: Model) -> str:
        known = sorted([*model.lines, *model.snapshots])
        return self.chance.choice([*known, "nowhere"])

    def _write(self, model: Model) -> tuple[Any, ...]:
        return self._path(), self._data()

    _append = _write

    def _truncate(self, model: Model) -> tuple[Any, ...]:
        return self._path(), self.chance.choice((-1, 0, 2, 5000))

    def _patch(self, model: Model) -> tuple[Any, ...]:
        return self._path(), self.chance.choice((0, 1, 4000, 20_000)), self._data()

    def _mkdir(self, model: Model) -> tuple[Any, ...]:
        return self._path(), self.chance.random() < 0.4, self.chance.random() < 0.5

    def _remove(self, model: Model) -> tuple[Any, ...]:
        return self._path(), self.chance.random() < 0.5

    def _rmdir(self, model: Model) -> tuple[Any, ...]:
        return (self._path(),)

    _read = _listdir = _lstat = _readlink = _rmdir

    def _rename(self, model: Model) -> tuple[Any, ...]:
        return self._path(), self._path()

    _copy = _link = _rename

    def _symlink(self, model: Model) -> tuple[Any, ...]:
        target = self._path().replace("\0", "") or ".."
        return self.chance.choice((target, target.lstrip("/") or "."))[:200], self._path()

    def _chmod(self, model: Model) -> tuple[Any, ...]:
        return self._path(), self.chance.choice((0o600, 0o755, 0o10644))

    def _setxattr(self, model: Model) -> tuple[Any, ...]:
        return self._path(), self.chance.choice(("user.a", "user.b")), self.chance.choice(TEXTS)

    def _removexattr(self, model: Model) -> tuple[Any, ...]:
        return self._path(), self.chance.choice(("user.a", "user.b"))

    def _fork(self, model: Model) -> tuple[Any, ...]:
        if len(model.lines) > 5 or self.chance.random() < 0.1:
            return "main", "main"
        return f"branch{model.made}", self._ref(model)

    def _snapshot(self, model: Model) -> tuple[Any, ...]:
        return ("main" if len(model.snapshots) > 8 else f"snapshot{model.made}",)

    def _restore(self, model: Model) -> tuple[Any, ...]:
        return (self._ref(model),)

    def _restore_paths(self, model: Model) -> tuple[Any, ...]:
        return self._ref(model), self._path()

    def _delete_branch(self, model: Model) -> tuple[Any, ...]:
        return (self._ref(model),)

    def _merge(self, model: Model) -> tuple[Any, ...]:
        return self._ref(model), self.chance.choice(STRATEGIES)

    def _gc(self, model: Model) -> tuple[Any, ...]:
        return (self.chance.choice((None, 0)),)


def on_volume(fs: AgentFS, step: Step) -> Any:
    """Run a step on the volume; a refusal is an outcome too."""
    try:
        handle = fs.on(step.branch)
        own = _OWN.get(step.name)
        found = own(handle, *step.arguments) if own else _plain(handle, step)
    except AgentFSError as error:
        return f"refused: {type(error).__name__}"
    return found if step.name in ("read", "listdir", "lstat", "readlink") else None


def _plain(fs: AgentFS, step: Step) -> Any:
    return getattr(fs, step.name)(*step.arguments)


def _patch(fs: AgentFS, path: str, offset: int, data: bytes) -> None:
    with fs.open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def _lstat(fs: AgentFS, path: str) -> tuple[str, int, int]:
    found = fs.lstat(path)
    return found.kind, found.mode, found.size


def _restore_paths(fs: AgentFS, ref: str, path: str) -> None:
    fs.restore(ref, paths=[path])


def _gc(fs: AgentFS, retention: float | None) -> None:
    fs.gc(retention)


_OWN = {"patch": _patch, "lstat": _lstat, "restore_paths": _restore_paths, "gc": _gc}


def next_step(steps: Steps, model: Model) -> tuple[Step, Any, Model]:
    """Return the next predictable step with its outcome and the model after it."""
    while True:
        step = steps.next(model)
        after = model.clone()
        try:
            return step, after.call(step.branch, step.name, step.arguments), after
        except Refused as error:
            return step, f"refused: {error}", model
        except Unpredictable:
            continue


def states(fs: AgentFS) -> dict[str, Any]:
    """Return what each branch and snapshot of a volume holds, as `Model.states` does."""
    refs = [each.name for each in fs.branches()] + [each.name for each in fs.snapshots()]
    return {ref: flat(fs.at(ref)) for ref in refs}


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Say in which states which paths differ, shortly."""
    wrong: list[str] = []
    for ref in sorted(found.keys() | expected.keys()):
        one, other = found.get(ref, {}), expected.get(ref, {})
        for path in sorted(one.keys() | other.keys()):
            if one.get(path) != other.get(path):
                text = f"{str(one.get(path))[:80]}, not {str(other.get(path))[:80]}"
                wrong.append(f"{ref}:{path} is {text}")
    return wrong


def flat(view: AgentFS) -> dict[str, tuple[Any, ...]]:
    """Return what one state holds, as `flat` of the model does."""
    found = {"/": _one(view, "/", "directory", view.lstat("/").mode)}
    waiting = ["/"]
    while waiting:
        for entry in view.scandir(waiting.pop()):
            found[entry.path] = _one(view, entry.path, entry.stat.kind, entry.stat.mode)
            if entry.stat.is_dir:
                waiting.append(entry.path)
    return found


def _one(view: AgentFS, path: str, kind: str, mode: int) -> tuple[Any, ...]:
    if kind == "symlink":
        return kind, mode, view.readlink(path).encode(), {}
    data = view.read(path) if kind == "file" else b""
    return kind, mode, data, {name: view.getxattr(path, name) for name in view.listxattr(path)}
