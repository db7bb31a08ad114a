"""The contracts of a home: finds one by the agent's name, and saves new ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from fmos.contract.binding_document import BindingDocument
from fmos.contract.folder import DocumentFolder, File
from fmos.contract.model import AgentContract
from fmos.contract.parse import Document, load_text
from fmos.contract.workflow import Workflow
from fmos.errors import ArgumentError, ContractError
from fmos.storage import wholefile
from fmos.types import checked_id

_SUFFIXES = (".yaml", ".yml")
_KEPT = 1024
_D = TypeVar("_D", AgentContract, BindingDocument, Workflow)

_NAME: dict[type[Document], Callable[..., str]] = {
    AgentContract: lambda contract: contract.name,
    BindingDocument: lambda binding: binding.agent,
    Workflow: lambda workflow: workflow.workflow,
}


class ContractLibrary:
    """A folder of contracts. Thread-safe; a file that changes is read again at the next look.

    The folder may hold binding documents and workflows too, and files of several documents.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = DocumentFolder(folder)
        # What no file's own name says, as long as the folder gives the same files.
        self._searched: tuple[tuple[File, ...], dict[tuple[type[Document], str], Any]] = ((), {})

    def get(self, name: str) -> AgentContract | None:
        """Return the contract named `name`, from `<name>.yaml` or any file whose `name` it is.

        Raises:
            ContractError: if `<name>.yaml` is broken or says another name, if two files declare
                the name, or if the only file that may declare it is broken.
        """
        return self._find(AgentContract, name)

    def binding(self, agent: str) -> BindingDocument | None:
        """Return the agent's binding document.

        Raises:
            ContractError: as `get` does.
        """
        return self._find(BindingDocument, agent)

    def workflow(self, name: str) -> Workflow | None:
        """Return the workflow of that name.

        Raises:
            ContractError: as `get` does.
        """
        return self._find(Workflow, name)

    def save(self, text: str) -> AgentContract:
        """Check a contract and write it to `<name>.yaml`, whole or not at all.

        Raises:
            ContractError: if the text is not a contract or the folder cannot be written.
        """
        contract = load_text(text)
        path = self._folder.path / f"{contract.name}.yaml"
        try:
            wholefile.write_text(path, text)
        except OSError as error:
            raise ContractError(
                f"cannot write the contract {str(path)!r}: {error.strerror}",
                hint="check the permissions of the folder",
            ) from error
        return contract

    def _find(self, kind: type[_D], name: str) -> _D | None:
        try:
            checked_id(name, "the name of a document")
        except ArgumentError:
            return None
        own = self._named_file(kind, name)
        return own if own is not None else self._search(kind, name)

    def _named_file(self, kind: type[_D], name: str) -> _D | None:
        for suffix in _SUFFIXES:
            found = self._folder.read(f"{name}{suffix}")
            if isinstance(found, ContractError):
                raise found
            same_kind = [each for each in found or () if isinstance(each, kind)]
            matching = [each for each in same_kind if _NAME[kind](each) == name]
            if len(matching) > 1:
                raise self._twice(name, [f"{name}{suffix}"] * 2)
            if matching:
                return matching[0]
            if same_kind:
                other = _NAME[kind](same_kind[0])
                raise ContractError(
                    f"{str(self._folder.path / (name + suffix))!r} declares the name {other!r}",
                    hint=f"rename the file to {other}.yaml, or set `name: {name}`",
                )
        return None

    def _search(self, kind: type[_D], name: str) -> _D | None:
        files = self._folder.all()
        of_files, known = self._searched
        if of_files is not files:
            known = {}
            self._searched = (files, known)
        found = known.get((kind, name), known)  # the table itself stands for no answer yet
        if found is known:
            found = self._search_in(files, kind, name)
            if len(known) >= _KEPT:
                known.clear()
            known[kind, name] = found
        return found

    def _search_in(self, files: tuple[File, ...], kind: type[_D], name: str) -> _D | None:
        broken: ContractError | None = None
        matches: list[tuple[str, _D]] = []
        for file, found in files:
            if isinstance(found, ContractError):
                may_be = broken is None and _may_declare(self._folder.path / file, name)
                broken = found if may_be else broken
                continue
            same_kind = [each for each in found if isinstance(each, kind)]
            matches += [(file, each) for each in same_kind if _NAME[kind](each) == name]
        if len(matches) > 1:
            raise self._twice(name, [file for file, _ in matches])
        if not matches and broken is not None:
            raise broken
        return matches[0][1] if matches else None

    def _twice(self, name: str, files: list[str]) -> ContractError:
        both = " and ".join(repr(file) for file in files[:2])
        return ContractError(
            f"two contracts are named {name!r}: {both} in {str(self._folder.path)!r}",
            hint="remove one of them",
        )


def _may_declare(path: Path, name: str) -> bool:
    """Return whether a broken file seems to hold the document of that name."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    field = r"""\b(?:name|agent|workflow)["']?\s*:\s*["']?"""
    return re.search(rf"{field}{re.escape(name)}(?![\w.@+-])", text) is not None
