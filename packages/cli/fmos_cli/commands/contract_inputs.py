"""What the commands that bind take in: files, the home's catalogue and policies, conditions."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fmos_cli.files import source
from fmos_cli.session import Session

if TYPE_CHECKING:
    from fmos.contract.admission import Admission
    from fmos.contract.catalogue import Catalogue
    from fmos.contract.manifest import Manifest
    from fmos.contract.model import AgentContract
    from fmos.contract.parse import Document
    from fmos.contract.policy import Policy

Mode = Literal["strict", "smooth", "flexible"]

ModeOption = Annotated[
    Mode | None, typer.Option(help="How freely to choose.  [default: strict; a step's own]")
]
CatalogueOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="What there is.  [default: catalogue.yaml of the home]"),
]
WhenOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="A condition that holds, for fallbacks.  [repeatable]"),
]
UnhealthyOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="What must not be chosen now.  [repeatable]"),
]
SessionOption = Annotated[
    str, typer.Option(metavar="ID", help="The session, which decides about canaries.")
]
PoliciesOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The layers.  [default: policies/ of the home]")
]
TenantOption = Annotated[str, typer.Option(help="Whose layers bind it.")]
RoleOption = Annotated[str, typer.Option(help="Whose layers bind it as well.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]


@dataclass(frozen=True, slots=True)
class BindingInputs:
    """Everything that a binding is made from, but the document."""

    home: Path
    mode: Mode | None
    catalogue: Catalogue | None
    when: tuple[str, ...]
    unhealthy: tuple[str, ...]
    session: str
    policies: Path
    tenant: str
    role: str

    @classmethod
    def of(
        cls,
        session: Session,
        mode: Mode | None,
        catalogue: Path | None,
        when: list[str] | None,
        unhealthy: list[str] | None,
        session_id: str,
        policies: Path | None,
        tenant: str,
        role: str,
    ) -> BindingInputs:
        """Read what the options name; the home is not made when it is not there."""
        from fmos.errors import ArgumentError  # noqa: PLC0415 - keeps --help fast

        if policies is not None and not policies.is_dir():
            raise ArgumentError(
                f"there is no folder {str(policies)!r}", hint="name the folder of the policies"
            )
        return cls(
            session.home,
            mode,
            _catalogue(session.home, catalogue),
            tuple(when or ()),
            tuple(unhealthy or ()),
            session_id,
            policies or session.home / "policies",
            tenant,
            role,
        )

    def bind(self, file: Path) -> dict[str, Manifest]:
        """Return step id to manifest; one that is no workflow has the id ""."""
        from fmos.contract.bind import bind, bind_workflow  # noqa: PLC0415
        from fmos.contract.manifest import Conditions, Manifest  # noqa: PLC0415
        from fmos.contract.policy import Policy  # noqa: PLC0415
        from fmos.contract.trust_policy import TrustPolicy  # noqa: PLC0415
        from fmos.contract.workflow import Workflow  # noqa: PLC0415
        from fmos.errors import ArgumentError  # noqa: PLC0415

        document = load(file)
        if isinstance(document, Manifest | Policy | TrustPolicy):
            raise ArgumentError(
                f"{str(file)!r} is a {type(document).__name__.lower()}, which cannot be bound",
                hint="name a contract, binding document or workflow",
            )
        conditions = Conditions(when=self.when, unhealthy=self.unhealthy)
        if isinstance(document, Workflow):
            return bind_workflow(
                document,
                catalogue=self.catalogue,
                mode=self.mode,
                policies=self._layers(None),
                conditions=conditions,
                session=self.session,
            )
        from fmos.contract.model import AgentContract  # noqa: PLC0415

        own = None if isinstance(document, AgentContract) else self._own(document.agent)
        manifest = bind(
            document,
            catalogue=self.catalogue,
            mode=self.mode or "strict",
            policies=self._layers(document if isinstance(document, AgentContract) else own),
            conditions=conditions,
            session=self.session,
            contract=own,
        )
        return {"": manifest}

    def admit(self, manifest: Manifest, running: list[Path], *, measure: bool) -> Admission:
        """Return whether the manifest fits beside those of the files, here and now."""
        from fmos.contract.admission import admit  # noqa: PLC0415 - keeps --help fast
        from fmos.contract.host import HostFacts, measure_jitter  # noqa: PLC0415
        from fmos.contract.manifest import load_manifest  # noqa: PLC0415

        return admit(
            manifest,
            running=[load_manifest(path) for path in running],
            host=HostFacts.read(jitter=measure_jitter() if measure else None),
            catalogue=self.catalogue,
            policies=self._layers(manifest.effective),
        )

    def _layers(self, contract: AgentContract | None) -> tuple[Policy, ...]:
        from fmos.contract.layers import PolicyLibrary  # noqa: PLC0415 - keeps --help fast
        from fmos.types import Principal  # noqa: PLC0415

        who = Principal(tenant=self.tenant, role=self.role)
        return PolicyLibrary(self.policies).for_principal(who, contract)

    def _own(self, agent: str) -> AgentContract | None:
        """Return the agent's contract in the home: its binding never goes beyond it."""
        from fmos.contract.library import ContractLibrary  # noqa: PLC0415 - keeps --help fast

        return ContractLibrary(self.home / "contracts").get(agent)


def load(path: Path) -> Document | Manifest:
    """Return the document or the sealed manifest in a file."""
    from fmos.contract.manifest import parse_manifest  # noqa: PLC0415 - keeps --help fast
    from fmos.contract.parse import load_document, read_text  # noqa: PLC0415

    text = read_text(source(path))
    with contextlib.suppress(ValueError):
        values = json.loads(text)
        if isinstance(values, dict) and values.get("kind") == "Manifest":
            return parse_manifest(text, str(path))
    return load_document(text, str(path))


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        ArgumentError: if it cannot be written.
    """
    from fmos.errors import ArgumentError  # noqa: PLC0415 - keeps --help fast
    from fmos.storage import wholefile  # noqa: PLC0415

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        wholefile.write_text(path, text)
    except OSError as error:
        raise ArgumentError(
            f"cannot write {str(path)!r}: {error.strerror}", hint="name another place with --out"
        ) from error


def _catalogue(home: Path, named: Path | None) -> Catalogue | None:
    from fmos.contract.catalogue import FILE_NAME, load_catalogue  # noqa: PLC0415

    path = named or home / FILE_NAME
    return load_catalogue(path) if named is not None or path.exists() else None
