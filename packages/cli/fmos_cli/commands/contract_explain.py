"""`fmos contract explain`: why each field of a binding has its value."""

from __future__ import annotations

import json
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
    load,
)

if TYPE_CHECKING:
    from fmos.contract.manifest import Choice, Manifest

EPILOG = "Example:  fmos contract explain guard.yaml model --mode smooth"


def explain(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A document, which is bound first, or a manifest.")],
    field: Annotated[str, typer.Argument(help="A dimension or field.  [default: all]")] = "",
    mode: ModeOption = None,
    catalogue: CatalogueOption = None,
    when: WhenOption = None,
    unhealthy: UnhealthyOption = None,
    session: SessionOption = "",
    policies: PoliciesOption = None,
    tenant: TenantOption = "default",
    role: RoleOption = "",
    as_json: JsonOption = False,
) -> None:
    """Say which layer decided each value, in which step, why, and what else was looked at.

    Exit codes: 4 the document is not valid; 8 no such field; 13 the manifest was changed; 15 a hard
    requirement is not met.
    """
    from fmos.contract.manifest import Manifest  # noqa: PLC0415 - keeps --help fast

    found = load(file)
    if isinstance(found, Manifest):
        bound = {"": found}
    else:
        inputs = BindingInputs.of(
            context.obj, mode, catalogue, when, unhealthy, session, policies, tenant, role
        )
        bound = inputs.bind(file)
    chosen = {name: _choices(manifest, field) for name, manifest in bound.items()}
    if field and not any(chosen.values()):
        raise _no_such_field(field, bound)
    if as_json:
        typer.echo(json.dumps(_document(bound, chosen), indent=2))
        return
    for name, manifest in bound.items():
        step = f"{name}: " if name else ""
        typer.echo(f"{step}{manifest.agent}, {manifest.mode}, manifest {manifest.hash[:12]}")
        for choice in chosen[name]:
            _show(choice)
        for note in manifest.notes if not field else ():
            typer.echo(f"  note: {note}")


def _choices(manifest: Manifest, field: str) -> tuple[Choice, ...]:
    return manifest.reasons(field) if field else manifest.choices


def _show(choice: Choice) -> None:
    typer.echo(f"  {choice.field} = {choice.value or 'nothing'}")
    typer.echo(f"    {choice.step}, by {choice.layer}: {choice.why}")
    if choice.alternatives:
        typer.echo(f"    also looked at: {', '.join(choice.alternatives)}")


def _document(bound: dict[str, Manifest], chosen: dict[str, tuple[Choice, ...]]) -> dict[str, Any]:
    each = {
        name: {
            "agent": manifest.agent,
            "mode": manifest.mode,
            "hash": manifest.hash,
            "choices": [choice.model_dump(mode="json") for choice in chosen[name]],
            "notes": list(manifest.notes),
        }
        for name, manifest in bound.items()
    }
    return each[""] if list(each) == [""] else {"steps": each}


def _no_such_field(field: str, bound: dict[str, Manifest]) -> Exception:
    import difflib  # noqa: PLC0415 - keeps --help fast

    from fmos.errors import NotFoundError  # noqa: PLC0415

    known = list(dict.fromkeys(choice.field for each in bound.values() for choice in each.choices))
    near = difflib.get_close_matches(field, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known) or 'none'}"
    return NotFoundError(f"nothing was decided about {field!r}", hint=hint)
