"""`fmos contract bind`: what a document comes to with what there is, sealed in a manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmos_cli.commands.contract_inputs import (
    BindingInputs,
    CatalogueOption,
    JsonOption,
    ModeOption,
    PoliciesOption,
    RoleOption,
    SessionOption,
    TenantOption,
    UnhealthyOption,
    WhenOption,
    write_whole,
)

if TYPE_CHECKING:
    from fmos.contract.admission import Admission
    from fmos.contract.manifest import Manifest

EPILOG = "Example:  fmos contract bind guard.yaml --mode flexible --when bandwidth_low --out m.json"


def bind(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A contract, binding document or workflow.")],
    mode: ModeOption = None,
    catalogue: CatalogueOption = None,
    when: WhenOption = None,
    unhealthy: UnhealthyOption = None,
    session: SessionOption = "",
    policies: PoliciesOption = None,
    tenant: TenantOption = "default",
    role: RoleOption = "",
    running: Annotated[
        list[Path] | None,
        typer.Option(metavar="MANIFEST", help="A manifest that runs here already.  [repeatable]"),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure for 0.2 s how late this interpreter wakes.")
    ] = False,
    admit: Annotated[
        bool, typer.Option("--admit", help="Fail (16) if it cannot be admitted to this host.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Write the manifest there; a workflow's into a folder."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Bind a document to what the catalogue offers and say what was chosen, and if it fits here.

    A workflow's steps are bound each in its own mode. Exit codes: 4 the document, catalogue or a
    policy is not valid; 15 a hard requirement is not met; 16 not admitted (with --admit).
    """
    inputs = BindingInputs.of(
        context.obj, mode, catalogue, when, unhealthy, session, policies, tenant, role
    )
    bound = inputs.bind(file)
    found = [
        (name, manifest, inputs.admit(manifest, running or [], measure=measure))
        for name, manifest in bound.items()
    ]
    if out is not None:
        _write(out, bound)
    if as_json:
        typer.echo(json.dumps(_document(found), indent=2))
    else:
        for name, manifest, admission in found:
            for line in _lines(name, manifest, admission):
                typer.echo(line)
    if admit:
        for _, _, admission in found:
            admission.require()


def _write(out: Path, bound: dict[str, Manifest]) -> None:
    for name, manifest in bound.items():
        path = out / f"{name}.json" if name else out
        write_whole(path, manifest.model_dump_json(indent=2) + "\n")


def _document(found: list[tuple[str, Manifest, Admission]]) -> dict[str, Any]:
    each = {
        name: {
            "manifest": manifest.model_dump(mode="json"),
            "admission": admission.model_dump(mode="json"),
        }
        for name, manifest, admission in found
    }
    return each[""] if list(each) == [""] else {"steps": each}


def _lines(name: str, manifest: Manifest, admission: Admission) -> Iterator[str]:
    step = f"{name}: " if name else ""
    canary = ", canary" if manifest.canary else ""
    yield f"{step}{manifest.agent} bound {manifest.mode}{canary}, manifest {manifest.hash[:12]}"
    width = max((len(dimension) for dimension in manifest.chosen), default=0)
    for dimension, value in manifest.chosen.items():
        text = value if isinstance(value, str) else ", ".join(value)
        why = manifest.reasons(dimension)[-1:]
        yield f"  {dimension:<{width}}  {text}" + "".join(f"  ({each.why})" for each in why)
    limits = ", ".join(f"{field} {amount}" for field, amount in manifest.limits.items())
    if limits:
        yield f"  limits: {limits}"
    for note in manifest.notes:
        yield f"  note: {note}"
    for test, outcome in admission.tests.items():
        yield f"  {test} {outcome}"
    for note in admission.notes:
        yield f"  note: {note}"
    if admission.admitted:
        yield f"  can be admitted here ({admission.latency.value})"
    for reason in admission.reasons:
        yield f"  not to be admitted here: {reason.message}"
