"""A realisation: contract, policies, transport and back end that a sequence runs on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from fmos.clock import Clock
from fmos.contract.parse import load_text
from fmos.errors import ArgumentError
from fmos.runtime.kernel import Kernel
from fmos.traps.manifest import ToolDescriptor
from fmos.types import IDENTIFIER, Principal, Record

Transport = Literal["inprocess", "daemon", "http"]

#: The tools of a realisation that names none; the first three really work on the agent's files.
TOOLS: tuple[dict[str, Any], ...] = (
    {"name": "read_file", "capability": "fs.read", "effect": "read", "roles": {"path": "path"}},
    {"name": "write_file", "capability": "fs.write", "effect": "write",
     "roles": {"path": "path", "content": "body"}},
    {"name": "remove_file", "capability": "fs.write", "effect": "write", "roles": {"path": "path"}},
    {"name": "send_mail", "capability": "email.send", "effect": "send",
     "roles": {"to": "recipient", "text": "body"}},
)  # fmt: skip


class BackEnd(Record):
    """How the tenant's volume is kept."""

    durability: Literal["normal", "full"] = "normal"
    key: str = Field(default="", description="encrypts the volume (extra `encryption`)")

    @property
    def is_usual(self) -> bool:
        """Whether it is what every home has."""
        return self == BackEnd()


class _Document(Record):
    """The YAML of a realisation; paths are relative to its file."""

    name: str = Field(default="", max_length=128)
    transport: Transport = "inprocess"
    contract: str | dict[str, Any]
    policies: tuple[str, ...] = ()
    settings: str = Field(default="", description="a fmos.toml")
    tools: tuple[ToolDescriptor, ...] | None = None
    files: dict[str, str] = Field(default_factory=dict, description="that the agent begins with")
    artefacts: dict[str, str] = Field(default_factory=dict, description="KIND/NAME: a file")
    back_end: BackEnd = BackEnd()
    tenant: str = Field(default="default", pattern=IDENTIFIER)
    session: str = Field(default="session", pattern=IDENTIFIER)


@dataclass(frozen=True)
class Realisation:
    """What a sequence runs on; `kernel` opens a home, so that tests can bring a broken one.

    `policies` and `artefacts` map names to texts.
    """

    name: str
    contract: str
    transport: Transport = "inprocess"
    policies: dict[str, str] = field(default_factory=dict)
    settings: str = ""
    tools: tuple[ToolDescriptor, ...] = tuple(ToolDescriptor.model_validate(t) for t in TOOLS)
    files: dict[str, str] = field(default_factory=dict)
    artefacts: dict[str, str] = field(default_factory=dict)
    back_end: BackEnd = field(default_factory=BackEnd)
    tenant: str = "default"
    session: str = "session"
    kernel: Callable[[Path, Clock], Kernel] = Kernel.open

    @property
    def principal(self) -> Principal:
        """Who acts: the agent that the contract names.

        Raises:
            ContractError: if the contract is broken.
        """
        agent = load_text(self.contract, source=f"contract of {self.name}").name
        return Principal(tenant=self.tenant, agent=agent, session=self.session)

    def named(self, name: str) -> Realisation:
        """Return the same under another name."""
        return replace(self, name=name)

    def furnish(self, home: Path) -> None:
        """Write the documents into a new home."""
        agent = self.principal.agent
        for folder in ("contracts", "policies"):
            (home / folder).mkdir(parents=True, exist_ok=True, mode=0o700)
        (home / "contracts" / f"{agent}.yaml").write_text(self.contract, encoding="utf-8")
        for name, text in self.policies.items():
            (home / "policies" / name).write_text(text, encoding="utf-8")
        if self.settings:
            (home / "fmos.toml").write_text(self.settings, encoding="utf-8")


def read_realisation(path: Path) -> Realisation:
    """Return the realisation that a YAML file describes.

    Raises:
        ArgumentError: naming the file and what is wrong in it.
    """
    try:
        loaded = yaml.safe_load(_text(path))
        document = _Document.model_validate(loaded)
    except yaml.YAMLError as error:
        raise ArgumentError(f"{str(path)!r} is not YAML: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise ArgumentError(
            f"{str(path)!r}: {where}: {first['msg']}", hint="docs/equivalence.md shows one"
        ) from error
    beside = path.parent
    contract = document.contract
    tools = document.tools
    made = Realisation(
        name=document.name or path.stem,
        contract=_text(beside / contract)
        if isinstance(contract, str)
        else yaml.safe_dump(contract, sort_keys=False),
        transport=document.transport,
        policies={Path(name).name: _text(beside / name) for name in document.policies},
        settings=_text(beside / document.settings) if document.settings else "",
        files=document.files,
        artefacts={name: _text(beside / file) for name, file in document.artefacts.items()},
        back_end=document.back_end,
        tenant=document.tenant,
        session=document.session,
    )
    return made if tools is None else replace(made, tools=tools)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ArgumentError(f"cannot read {str(path)!r}: {why}") from error
