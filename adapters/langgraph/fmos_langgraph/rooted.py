"""What an agent sees of a volume: the files below one directory, under paths of its own.

Nothing outside of that directory is reached, nor the system area, nor anything through a symbolic
link: who checks rules against a path can rely on it being the file's only one.
"""

from __future__ import annotations

from collections.abc import Iterator

from agentfs import AgentFS, AgentFSError, DirEntry, NotADirectory, NotFound, PermissionDenied, Stat
from agentfs.paths import PathLike, is_inside, is_system, join, normalise, split


class Rooted:
    """The rules that turn an agent's paths into those of the volume, and back."""

    def __init__(self, fs: AgentFS, root: PathLike) -> None:
        """Take a handle and the directory that is the agent's `/`.

        Raises:
            InvalidName: the root is no absolute path.
            PermissionDenied: the root is in the system area.
        """
        self._fs = fs
        self._root = normalise(root, system=False)

    @property
    def root(self) -> str:
        """Return the directory of the volume that the agent knows as `/`."""
        return self._root

    def place(self, path: str, *, link_itself: bool = False) -> str:
        """Return the volume's path for one of the agent's; a final link only if it is meant.

        Raises:
            ValueError: it goes through a symbolic link or has `..` in it.
            PermissionDenied: it is in the system area.
        """
        if ".." in path.split("/"):
            raise ValueError("path traversal ('..') is not allowed")
        place = normalise(f"{self._root}/{path}")
        if is_system(place):
            raise PermissionDenied(place)
        self._refuse_links(split(place)[0] if link_itself else place)
        return place

    def _refuse_links(self, place: str) -> None:
        here = "/"
        for name in filter(None, place.split("/")):
            here = join(here, name)
            found = self.stat(here)
            if found is None:
                return
            if found.is_symlink:
                raise ValueError(f"'{self.shown(here)}' is a symbolic link {self._advice(here)}")

    def _advice(self, link: str) -> str:
        target = self._fs.readlink(link)
        leads = normalise(target if target.startswith("/") else f"{split(link)[0]}/{target}")
        if is_inside(leads, self._root) and not is_system(leads):
            return f"to '{self.shown(leads)}': use that path"
        return "that leads outside"

    def stat(self, place: str) -> Stat | None:
        """Return what is known about a path of the volume, or None where nothing is."""
        try:
            return self._fs.lstat(place)
        except (NotFound, NotADirectory):
            return None

    def shown(self, place: str) -> str:
        """Return the agent's path for one of the volume's."""
        if self._root == "/" or not is_inside(place, self._root):
            return place
        return place[len(self._root) :] or "/"

    def files(self, base: str) -> Iterator[tuple[str, Stat, str]]:
        """Yield each file at or below a path: its path, its stat, its path from there."""
        found = self.stat(base)
        if found is not None and found.is_file:
            yield base, found, split(base)[1]
        waiting = [base] if found is not None and found.is_dir else []
        start = len(base.rstrip("/")) + 1
        while waiting:
            entries = self.entries(waiting.pop())
            for each in entries:
                if each.stat.is_file:
                    yield each.path, each.stat, each.path[start:]
            waiting += [each.path for each in reversed(entries) if each.stat.is_dir]

    def entries(self, place: str) -> list[DirEntry]:
        """Return what is in a directory of the volume, by name.

        Raises:
            NotFound, NotADirectory.
        """
        return [each for each in self._fs.scandir(place) if not is_system(each.path)]

    def reason(self, error: Exception) -> str:
        """Return what an error says, about the path as the agent knows it."""
        if isinstance(error, AgentFSError) and error.subject.startswith("/"):
            return type(error)(self.shown(error.subject), error.reason).message
        return str(error)
