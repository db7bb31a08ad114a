"""The files of a deepagents agent in a volume: a backend that forks, rewinds and diffs with it.

The only module that imports deepagents. Paths are those of the agent, below a root in the volume.
A path through a symbolic link is refused, with the path to use instead: deepagents checks its
permission rules against the path that it passes, so a link would lead around them.
"""

# deepagents is an extra that the environment of the type checker does not have.
# pyright: reportMissingImports=false

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime

from agentfs import (
    AgentFS,
    AgentFSError,
    AlreadyExists,
    InvalidName,
    IsADirectory,
    NotADirectory,
    NotFound,
    PermissionDenied,
    ReadOnly,
    Stat,
)
from agentfs.paths import PathLike, split
from fmos_langgraph.opening import OnBranch
from fmos_langgraph.rooted import Rooted
from fmos_langgraph.textfiles import Search, decode, replace_lines, unix

try:
    from deepagents.backends.protocol import (
        BackendProtocol,
        DeleteResult,
        EditResult,
        FileData,
        FileDownloadResponse,
        FileInfo,
        FileUploadResponse,
        GlobResult,
        GrepMatch,
        GrepResult,
        LsResult,
        ReadResult,
        WriteResult,
    )
    from deepagents.backends.utils import (
        _get_backend_read_file_type,  # which extensions are binary has no public name
        compile_grep_include_glob,
        perform_string_replacement,
        slice_read_response,
    )
except ImportError as error:
    raise ImportError(
        "FmosBackend needs deepagents 0.7: run `pip install deepagents` "
        f'(or `pip install "fmos[deepagents]"`); the import said: {error}'
    ) from error

# Below the 10 s after which deepagents' tools give up a search with nothing.
SEARCH_S = 5.0
_FAILURES = (AgentFSError, ValueError)
_NO_TEXT = "Error: Cannot edit binary files with text replacements."


class FmosBackend(OnBranch, BackendProtocol):
    """A deepagents backend on a branch of a volume; safe between threads and processes.

    Each call is one transaction, or reads one state. Nothing raises: the results say what failed.
    The async twins of all methods are those of deepagents, which run these on threads.
    """

    def __init__(self, fs: AgentFS, root: PathLike = "/", *, search_s: float = SEARCH_S) -> None:
        """Take a handle; the agent sees what is below `root`, which the first write makes.

        Neither the system area nor anything outside of `root` is ever seen. A grep or glob that
        takes longer than `search_s` seconds returns what it found so far, as truncated.

        Raises:
            InvalidName: the root is no absolute path.
            PermissionDenied: the root is in the system area.
        """
        self._fs = fs
        self._view = Rooted(fs, root)
        self._search_s = search_s
        self._owns_fs = False

    @classmethod
    def from_path(
        cls, path: PathLike, branch: str | None = None, root: PathLike = "/"
    ) -> FmosBackend:
        """Open a volume, made when it is missing; use the result in a `with`, or `close` it.

        Raises:
            VolumeError, BranchNotFound: as `AgentFS.open`.
        """
        fs = AgentFS.open(path, branch=branch)
        try:
            backend = cls(fs, root)
        except BaseException:
            fs.close()
            raise
        backend._owns_fs = True
        return backend

    @property
    def root(self) -> str:
        """Return the directory of the volume that the agent knows as `/`."""
        return self._view.root

    # -- looking ------------------------------------------------------------------------------

    def ls(self, path: str) -> LsResult:
        """List a directory; those in it end in `/`, and a symbolic link is listed as such."""
        try:
            with self._fs.reading():
                return LsResult(entries=self._list(self._view.place(path)))
        except NotFound:
            return LsResult(error=f"Path '{path}': path_not_found")
        except NotADirectory:
            return LsResult(error=f"Path '{path}': not_a_directory")
        except _FAILURES as error:
            return LsResult(error=f"Cannot list '{path}': {self._view.reason(error)}")

    def _list(self, place: str) -> list[FileInfo]:
        if place == self._view.root and not self._fs.exists(place):
            return []
        infos = [self._info(each.path, each.stat) for each in self._view.entries(place)]
        return sorted(infos, key=_path_of)

    def read(self, file_path: str, offset: int = 0, limit: int = 2000) -> ReadResult:
        """Return `limit` lines of a text file after the first `offset`, or all of a binary one.

        Binary is what deepagents knows as such by its name, and what is not UTF-8; its content is
        base64.
        """
        try:
            with self._fs.reading():
                place = self._view.place(file_path)
                found = self._view.stat(place)
                if found is None or not found.is_file:
                    return ReadResult(error=f"File '{file_path}' not found")
                raw = self._fs.read(place)
        except _FAILURES as error:
            return ReadResult(error=f"Error reading file '{file_path}': {self._view.reason(error)}")
        text = decode(raw) if _get_backend_read_file_type(file_path) == "text" else None
        if text is None:
            content = base64.standard_b64encode(raw).decode("ascii")
            return ReadResult(file_data=_file_data(content, "base64", found))
        return slice_read_response(_file_data(text, "utf-8", found), offset, limit)

    def grep(
        self,
        pattern: str,
        path: str | None = None,
        glob: str | None = None,
        *,
        max_count: int | None = None,
    ) -> GrepResult:
        """Find the lines that hold a text, letter by letter, in the text files below a path.

        `glob` chooses files by name; at most `max_count` matches are returned in all.
        """
        try:
            chosen = compile_grep_include_glob(glob) if glob else None
        except ValueError as error:
            return GrepResult(error=str(error))
        search = Search(pattern, max_count, self._search_s)
        try:
            with self._fs.reading():
                for place, _, relative in self._view.files(self._view.place(path or "/")):
                    if (chosen is None or chosen(relative)) and not self._search(place, search):
                        break
        except _FAILURES as error:
            return GrepResult(error=f"Error searching path '{path}': {self._view.reason(error)}")
        matches = [GrepMatch(path=path, line=line, text=text) for path, line, text in search.found]
        problems = "\n".join(search.problems) or None
        return GrepResult(error=problems, matches=matches, truncated=search.truncated)

    def _search(self, place: str, search: Search) -> bool:
        """Search one file and say whether to go on to the next."""
        shown = self._view.shown(place)
        try:
            raw = self._fs.read(place)
        except AgentFSError as error:
            search.problems.append(f"Error: '{shown}' was not searched: {self._view.reason(error)}")
            return not search.is_late()
        return search.add(shown, raw)

    def glob(self, pattern: str, path: str | None = None) -> GlobResult:
        """Find the files below a path that match a pattern, sorted by path.

        A pattern without a slash is for names at any depth; see `BackendProtocol.glob`.
        """
        try:
            matches = compile_grep_include_glob(pattern)
        except ValueError as error:
            return GlobResult(error=str(error))
        deadline = time.monotonic() + self._search_s
        infos: list[FileInfo] = []
        late = False
        try:
            with self._fs.reading():
                for place, stat, relative in self._view.files(self._view.place(path or "/")):
                    if matches(relative):
                        infos.append(self._info(place, stat))
                    late = time.monotonic() > deadline
                    if late:
                        break
        except _FAILURES as error:
            return GlobResult(error=f"Error globbing path '{path}': {self._view.reason(error)}")
        infos.sort(key=_path_of)
        reason = "budget" if late else None
        return GlobResult(matches=infos, truncated=late, truncation_reason=reason)

    # -- changing -----------------------------------------------------------------------------

    def write(self, file_path: str, content: str) -> WriteResult:
        """Write a text file, with the directories above it, over what was there."""
        try:
            self._put(file_path, content.encode())
        except _FAILURES as error:
            return WriteResult(
                error=f"Error writing file '{file_path}': {self._view.reason(error)}"
            )
        return WriteResult(path=file_path)

    def edit(
        self,
        file_path: str,
        old_string: str,
        new_string: str,
        replace_all: bool = False,
    ) -> EditResult:
        """Replace a text that is in a file once, or with `replace_all` wherever it is.

        Line ends count as equal, as `read` shows them all as LF; those in the file stay.
        """
        try:
            with self._fs.transaction():
                place = self._view.place(file_path)
                found = self._view.stat(place)
                if found is None or not found.is_file:
                    return EditResult(error=f"Error: File '{file_path}' not found")
                old, new = unix(old_string), unix(new_string)
                text = decode(self._fs.read(place))
                if text is None:
                    return EditResult(error=_NO_TEXT)
                made = perform_string_replacement(unix(text), old, new, replace_all)
                if isinstance(made, str):
                    return EditResult(error=made)
                self._fs.write(place, replace_lines(text, old, new))
        except _FAILURES as error:
            return EditResult(error=f"Error editing file '{file_path}': {self._view.reason(error)}")
        return EditResult(path=file_path, occurrences=made[1])

    def delete(self, file_path: str) -> DeleteResult:
        """Remove a file, a symbolic link, or a directory with all below it."""
        try:
            with self._fs.transaction():
                doomed = self._doomed(self._view.place(file_path, link_itself=True))
                for place in doomed:
                    self._fs.remove(place, recursive=True)
        except NotFound:
            doomed = []
        except _FAILURES as error:
            return DeleteResult(error=f"Error deleting '{file_path}': {self._view.reason(error)}")
        if not doomed:
            return DeleteResult(error=f"Error: '{file_path}' not found")
        return DeleteResult(path=file_path)

    def _doomed(self, place: str) -> list[str]:
        """Return what to remove: of the root all that is in it, as it stays itself."""
        if place != self._view.root:
            return [place]
        return [each.path for each in self._view.entries(place)]

    # -- many files ---------------------------------------------------------------------------

    def upload_files(self, files: list[tuple[str, bytes]]) -> list[FileUploadResponse]:
        """Write files in one transaction; one that cannot be written does not stop the others."""
        try:
            with self._fs.transaction():
                return [FileUploadResponse(path, self._upload(path, data)) for path, data in files]
        except _FAILURES as error:
            return [FileUploadResponse(path, self._problem(error)) for path, _ in files]

    def _upload(self, path: str, data: bytes) -> str | None:
        """Write one file and return what was wrong."""
        try:
            self._put(path, data)
        except _FAILURES as error:
            return self._problem(error)
        return None

    def download_files(self, paths: list[str]) -> list[FileDownloadResponse]:
        """Return the bytes of files, all of one state."""
        try:
            with self._fs.reading():
                return [self._download(path) for path in paths]
        except _FAILURES as error:
            return [FileDownloadResponse(path, None, self._problem(error)) for path in paths]

    def _download(self, path: str) -> FileDownloadResponse:
        try:
            return FileDownloadResponse(path, self._fs.read(self._view.place(path)))
        except _FAILURES as error:
            return FileDownloadResponse(path, None, self._problem(error))

    def _info(self, place: str, stat: Stat) -> FileInfo:
        end = "/" if stat.is_dir else ""
        return FileInfo(
            path=self._view.shown(place) + end,
            is_dir=stat.is_dir,
            size=stat.size if stat.is_file else 0,
            modified_at=_time(stat),
        )

    def _put(self, path: str, data: bytes) -> None:
        with self._fs.transaction():
            place = self._view.place(path)
            self._fs.mkdir(split(place)[0], parents=True, exist_ok=True)
            self._fs.write(place, data)

    # -- failures -----------------------------------------------------------------------------

    def _problem(self, error: Exception) -> str:
        """Return deepagents' word for an error, or what it says where there is none."""
        words = {
            NotFound: "file_not_found",
            IsADirectory: "is_directory",
            PermissionDenied: "permission_denied",
            ReadOnly: "permission_denied",
            NotADirectory: "invalid_path",
            AlreadyExists: "invalid_path",
            InvalidName: "invalid_path",
            ValueError: "invalid_path",
        }
        found = (word for kind, word in words.items() if isinstance(error, kind))
        return next(found, None) or self._view.reason(error)


def _time(stat: Stat) -> str:
    return datetime.fromtimestamp(stat.mtime_ns / 1e9, UTC).isoformat()


def _file_data(content: str, encoding: str, stat: Stat) -> FileData:
    return FileData(content=content, encoding=encoding, modified_at=_time(stat))


def _path_of(info: FileInfo) -> str:
    return info["path"]
