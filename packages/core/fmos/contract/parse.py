"""Reads contracts, binding documents, workflows and both kinds of policies from YAML.

Every complaint names the source, the line, the column, the field, what was found and expected.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from pydantic import ValidationError

from fmos.contract.binding_document import BindingDocument
from fmos.contract.complaints import all_complaints, nearest, refusal
from fmos.contract.formats import upgraded
from fmos.contract.model import AgentContract
from fmos.contract.policy import Policy
from fmos.contract.positions import Place, place_of
from fmos.contract.trust_policy import TrustPolicy
from fmos.contract.workflow import Workflow
from fmos.errors import Complaint, ContractError

Document = AgentContract | BindingDocument | Workflow | Policy | TrustPolicy
_D = TypeVar("_D", bound=Document)

KINDS: dict[str, type[Document]] = {
    "AgentContract": AgentContract,
    "BindingDocument": BindingDocument,
    "Workflow": Workflow,
    "Policy": Policy,
    "TrustPolicy": TrustPolicy,
}
_MAX_CHARACTERS = 1_000_000
_BINDING_FIELDS = frozenset({"must", "prefer", "latency_class", "class", "allow_fallbacks"})


class Tree(NamedTuple):
    """One YAML document: its nodes, which know their places, and its values."""

    root: yaml.Node
    values: Any


def load_file(path: Path) -> AgentContract:
    """Read the contract in a file.

    Raises:
        ContractError: if the file cannot be read or is not a contract.
    """
    return load_text(read_text(path), str(path))


def dump_text(contract: AgentContract) -> str:
    """Return a contract as a document that `load_text` reads; what it leaves open is not in it."""
    said = contract.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    head = {"apiVersion": "agentos/v0.2", "kind": "AgentContract"}
    return yaml.safe_dump({**head, **said}, sort_keys=False)


def load_text(text: str, source: str = "<text>") -> AgentContract:
    """Read a contract from YAML (or JSON, which is YAML).

    Raises:
        ContractError: naming the first thing that is wrong; its `complaints` have all.
    """
    return load_as(AgentContract, text, source)


def load_as(model: type[_D], text: str, source: str = "<text>") -> _D:
    """Read one document of a given kind.

    Raises:
        ContractError: if the text is not one document of that kind.
    """
    trees = list(read_trees(text, source))
    kind = next(name for name, each in KINDS.items() if each is model)
    if len(trees) > 1:
        place = place_of(trees[1].root, ())
        raise ContractError(
            f"{source}:{place.line}:{place.column}: a second document begins here",
            hint=f"give one {kind} here, or put each document in a file of its own",
        )
    if not trees or not isinstance(trees[0].root, yaml.MappingNode):
        raise ContractError(
            f"{source} is not a contract: it holds no mapping", hint=_beginning(kind)
        )
    return _validated(model, trees[0], source)


def load_document(text: str, source: str = "<text>") -> Document:
    """Read one document of any kind, told by `kind:`, or else by its fields.

    Raises:
        ContractError: if the text is not exactly one valid document.
    """
    first, *more = load_documents(text, source)
    if more:
        raise ContractError(
            f"{source} holds {1 + len(more)} documents",
            hint="give each a file of its own, or name the one that is meant",
        )
    return first


def load_documents(text: str, source: str = "<text>") -> tuple[Document, ...]:
    """Read every document of a text, in which `---` stands between two.

    Raises:
        ContractError: about the first document that is not valid, or if there is none.
    """
    trees = list(read_trees(text, source))
    if not trees:
        raise ContractError(f"{source} is not a contract: it is empty", hint=_beginning())
    return tuple(parse_tree(tree, source) for tree in trees)


def parse_tree(tree: Tree, source: str) -> Document:
    """Return the record of one YAML document.

    Raises:
        ContractError: if it is none of the kinds, or not valid as what it is.
    """
    return _validated(kind_of(tree, source), tree, source)


def kind_of(tree: Tree, source: str) -> type[Document]:
    """Return which record a YAML document is meant to be.

    Raises:
        ContractError: if it cannot be told.
    """
    if not isinstance(tree.root, yaml.MappingNode) or not isinstance(tree.values, dict):
        place = place_of(tree.root, ())
        raise ContractError(
            f"{source}:{place.line}:{place.column}: this is not a document: it is not a mapping",
            hint=_beginning(),
        )
    fields = tree.values
    if "kind" in fields:
        return _declared_kind(tree, source)
    if "workflow" in fields:
        return Workflow
    if "agent" in fields and not _BINDING_FIELDS.isdisjoint(fields):
        return BindingDocument
    if "layer" in fields:
        return Policy
    if "rules" in fields:
        return TrustPolicy
    if "apiVersion" in fields or "name" in fields:
        return AgentContract
    complaint = Complaint(
        *place_of(tree.root, ()),
        field="kind",
        found=", ".join(str(name) for name in list(fields)[:5]),
        expected=", ".join(KINDS),
        message="it cannot be told what document this is",
        hint=f"say `kind: ...`, one of {', '.join(KINDS)}",
    )
    raise refusal((complaint,), source)


def read_text(path: Path) -> str:
    """Return the text of a document's file.

    Raises:
        ContractError: if it cannot be read or is not UTF-8.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ContractError(
            f"cannot read the contract {str(path)!r}: {error.strerror}",
            hint="check the path and its permissions",
        ) from error
    return decoded(data, str(path))


def decoded(data: bytes, source: str) -> str:
    """Return the text of a document.

    Raises:
        ContractError: if the bytes are not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ContractError(
            f"{source!r} is not UTF-8 text (byte {error.start})", hint="save it as UTF-8"
        ) from error


def read_trees(text: str, source: str) -> Iterator[Tree]:
    """Yield the YAML documents of a text; one that holds nothing is passed over.

    Raises:
        ContractError: if it is not YAML, with the place.
    """
    if len(text) > _MAX_CHARACTERS:
        raise ContractError(
            f"{source} has {len(text)} characters, more than the {_MAX_CHARACTERS} of a contract",
            hint="check that it is the right file",
        )
    try:
        yield from _trees(text)
    except yaml.MarkedYAMLError as error:
        raise _broken_yaml(error, source) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        first = str(error).splitlines()[0]
        raise ContractError(
            f"{source} is not valid YAML: {first}", hint="correct the document"
        ) from error


def _trees(text: str) -> Iterator[Tree]:
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            empty = isinstance(node, yaml.ScalarNode) and not node.value
            if node is not None and not empty:
                yield Tree(node, loader.construct_document(node))
    finally:
        loader.dispose()


def _broken_yaml(error: yaml.MarkedYAMLError, source: str) -> ContractError:
    mark = error.problem_mark or error.context_mark
    place = Place(mark.line + 1, mark.column + 1) if mark else Place(0, 0)
    where = f"line {place.line}, column {place.column}" if mark else "an unknown line"
    problem = error.problem or "cannot be read"
    message = f"not valid YAML at {where}: {problem}"
    complaint = Complaint(*place, "", problem, "YAML", message, "correct that line")
    return ContractError(
        f"{source} is {message}", hint="correct that line", complaints=(complaint,)
    )


def _declared_kind(tree: Tree, source: str) -> type[Document]:
    kind = tree.values["kind"]
    if isinstance(kind, str) and kind in KINDS:
        return KINDS[kind]
    complaint = Complaint(
        *place_of(tree.root, ("kind",)),
        field="kind",
        found=repr(kind)[:80],
        expected=", ".join(KINDS),
        message=f"the field 'kind' is wrong: expected {', '.join(KINDS)}, found {repr(kind)[:80]}",
        hint=nearest(str(kind), KINDS),
    )
    raise refusal((complaint,), source)


def _validated(model: type[_D], tree: Tree, source: str) -> _D:
    record: _D | None = None
    failure: ValidationError | None = None
    try:
        record = model.model_validate(upgraded(tree.values))
    except ValidationError as error:
        failure = error
    complaints = all_complaints(failure, tree.root, model)
    if record is None or complaints:
        raise refusal(complaints, source) from failure
    return record


def _beginning(kind: str = "AgentContract") -> str:
    if kind in ("AgentContract", "Policy", "TrustPolicy"):
        return f"begin with `apiVersion: agentos/v0.2` and `kind: {kind}`"
    return "begin with `workflow: ...`" if kind == "Workflow" else "begin with `agent: ...`"
