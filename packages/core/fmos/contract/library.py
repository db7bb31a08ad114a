"""The contracts of a home: finds one by the agent's name, and saves new ones."""

from __future__ import annotations

import os
import re
import secrets
import threading
from pathlib import Path
from typing import NamedTuple

from fmos.contract.model import AgentContract
from fmos.contract.parse import load_file, load_text
from fmos.errors import ContractError
from fmos.types import IDENTIFIER

_SUFFIXES = (".yaml", ".yml")


class _Stamp(NamedTuple):
    """What changes when a file does."""

    inode: int
    mtime_ns: int
    size: int


class ContractLibrary:
    """A folder of contracts. Thread-safe; a file that changes is read again at the next look."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._read: dict[Path, tuple[_Stamp, AgentContract | ContractError]] = {}

    def get(self, name: str) -> AgentContract | None:
        """Return the contract named `name`, from `<name>.yaml` or any file whose `name` it is.

        Raises:
            ContractError: if `<name>.yaml` is broken or says another name, if two files declare
                the name, or if the only file that may declare it is broken.
        """
        if not re.match(IDENTIFIER, name):
            return None
        with self._lock:
            own = self._named_file(name)
            return own if own is not None else self._search(name)

    def save(self, text: str) -> AgentContract:
        """Check a contract and write it to `<name>.yaml`, whole or not at all.

        Raises:
            ContractError: if the text is not a contract or the folder cannot be written.
        """
        contract = load_text(text)
        path = self._folder / f"{contract.name}.yaml"
        draft = self._folder / f".{contract.name}.{secrets.token_hex(8)}"
        try:
            draft.write_text(text, encoding="utf-8")
            os.replace(draft, path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise ContractError(
                f"cannot write the contract {str(path)!r}: {error.strerror}",
                hint="check the permissions of the folder",
            ) from error
        return contract

    def _named_file(self, name: str) -> AgentContract | None:
        for suffix in _SUFFIXES:
            path = self._folder / f"{name}{suffix}"
            found = self._load(path)
            if isinstance(found, ContractError):
                raise found
            if found is not None and found.name != name:
                raise ContractError(
                    f"{str(path)!r} declares the name {found.name!r}",
                    hint=f"rename the file to {found.name}.yaml, or set `name: {name}`",
                )
            if found is not None:
                return found
        return None

    def _search(self, name: str) -> AgentContract | None:
        broken: ContractError | None = None
        matches: list[tuple[Path, AgentContract]] = []
        for path in sorted(p for p in self._folder.glob("*") if p.suffix in _SUFFIXES):
            found = self._load(path)
            if isinstance(found, ContractError):
                broken = broken or (found if _may_declare(path, name) else None)
            elif found is not None and found.name == name:
                matches.append((path, found))
        if len(matches) > 1:
            files = " and ".join(repr(path.name) for path, _ in matches[:2])
            raise ContractError(
                f"two contracts are named {name!r}: {files} in {str(self._folder)!r}",
                hint="remove one of them",
            )
        if not matches and broken is not None:
            raise broken
        return matches[0][1] if matches else None

    def _load(self, path: Path) -> AgentContract | ContractError | None:
        try:
            status = path.stat()
        except FileNotFoundError:
            self._read.pop(path, None)
            return None
        stamp = _Stamp(status.st_ino, status.st_mtime_ns, status.st_size)
        cached = self._read.get(path)
        if cached is not None and cached[0] == stamp:
            return cached[1]
        result: AgentContract | ContractError
        try:
            result = load_file(path)
        except ContractError as error:
            result = error
        self._read[path] = (stamp, result)
        return result


def _may_declare(path: Path, name: str) -> bool:
    """Return whether a broken file seems to be the contract of that name."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    return re.search(rf"""\bname["']?\s*:\s*["']?{re.escape(name)}(?![\w.@+-])""", text) is not None
