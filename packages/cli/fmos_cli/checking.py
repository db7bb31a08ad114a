"""Runs `fmos check`: finds contract, tools and adapters, and says how far it is."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import ValidationError

from fmos.check.canary import Progress, SeamResults, drive_seams
from fmos.check.model import Caution, Report
from fmos.check.report import check_contract, with_seams
from fmos.check.seams import adapter_names, seams_of
from fmos.config import Home
from fmos.contract.layers import PolicyLibrary, merge
from fmos.contract.library import ContractLibrary
from fmos.contract.model import AgentContract
from fmos.contract.parse import load_file
from fmos.errors import ArgumentError, DriverError, MissingExtraError, NotFoundError
from fmos.runtime.kernel import Kernel
from fmos.runtime.limits import limits_calls, limits_of
from fmos.traps.manifest import ToolDescriptor
from fmos.types import Principal, checked_id
from fmos_trust.approvals import Approvals
from fmos_trust.pins.keeper import pins_of

_QUIET_S = 1.0


@dataclass(frozen=True, slots=True)
class Request:
    """What one run of the command asks for; `adapters` is None for all that are installed."""

    home: Path
    contract: str
    tools: Path | None
    adapters: tuple[str, ...] | None
    accept: tuple[str, ...]
    tenant: str


def run_check(request: Request) -> Report:
    """Check what was asked for.

    Raises:
        ArgumentError: if the manifest or an option is not usable.
        ContractError: if the contract is broken.
        NotFoundError: if there is no such contract or adapter.
        MissingExtraError: if an adapter that was named cannot be loaded.
    """
    checked_id(request.tenant, "a tenant id")
    report = _contract_report(request)
    results, skipped = _seam_results(request)
    whole = with_seams(report, results)
    extra = (*skipped, *_unused(request.accept, whole))
    return whole.model_copy(update={"warnings": (*whole.warnings, *extra)})


def _contract_report(request: Request) -> Report:
    manifest = _manifest(request.tools) if request.tools else []
    if not request.contract:
        if manifest:
            raise ArgumentError(
                "there are tools and no contract to check them under",
                hint="name an agent or a contract file",
            )
        return Report()
    contract, registered, metered = _under_contract(request)
    known = {tool.name: tool for tool in registered}
    # The same descriptor in both places is one; two that differ must be seen as two.
    tools = [*registered, *(tool for tool in manifest if known.get(tool.name) != tool)]
    return check_contract(
        contract,
        tools,
        tenant=request.tenant,
        private=sorted({str(request.home), str(request.home.resolve())}),
        metered=metered,
        file=str(request.tools or request.contract),
    )


def _under_contract(request: Request) -> tuple[AgentContract, list[ToolDescriptor], bool]:
    """Return the effective contract, the tools of its agent, and whether its calls are limited."""
    home = Home(request.home)
    named = request.contract
    is_file = named.endswith((".yaml", ".yml")) or "/" in named
    own = load_file(Path(named)) if is_file else None
    agent = checked_id(own.name if own else named, "an agent id")
    who = Principal(tenant=request.tenant, agent=agent, role=own.role if own else "")
    tools: list[ToolDescriptor] = []
    if home.kernel_db.exists():  # to open a kernel would make one
        with Kernel.open(home.path) as kernel:
            lineage = kernel.agents.lineage(who)
            tools = list(pins_of(kernel).in_force(who.tenant, lineage).tools.values())
            standing = kernel.standing(who) if own is None else None
            if standing is not None and (effective := standing.mandate.contract) is not None:
                return (
                    effective,
                    tools,
                    kernel.limits_calls(standing) or bool(kernel.settings.drivers.policies),
                )
    own = own or ContractLibrary(home.contracts).get(agent)
    if own is None:
        raise NotFoundError(
            f"there is no contract for the agent {agent!r} in {str(home.contracts)!r}",
            hint="put one there, or name a contract file",
        )
    merged = merge(own, PolicyLibrary(home.policies).for_principal(who))
    limits = limits_of(merged.contract, merged.accounts)
    return merged.contract, tools, limits_calls(limits)


def _manifest(path: Path) -> list[ToolDescriptor]:
    """Return the descriptors in a file: a JSON list, or an object with the list as `tools`."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArgumentError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except ValueError as error:
        raise ArgumentError(f"{str(path)!r} is not JSON: {error}") from error
    items = document.get("tools") if isinstance(document, dict) else document
    if not isinstance(items, list):
        raise ArgumentError(
            f"{str(path)!r} holds no list of tools",
            hint='write [{"name": "read_file", "effect": "read", "roles": {"path": "path"}}]',
        )
    return [_descriptor(path, number, item) for number, item in enumerate(items, 1)]


def _descriptor(path: Path, number: int, item: object) -> ToolDescriptor:
    try:
        return ToolDescriptor.model_validate(item)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise ArgumentError(
            f"tool {number} of {str(path)!r}: {field}: {first['msg']}",
            hint="docs/check.md shows a manifest",
        ) from error


def _seam_results(request: Request) -> tuple[list[SeamResults], list[Caution]]:
    """Drive the adapters; one that was not named and cannot be loaded is a warning."""
    results: list[SeamResults] = []
    skipped: list[Caution] = []
    wanted = adapter_names() if request.adapters is None else request.adapters
    with _progress() as progress:
        for adapter in wanted:
            try:
                seams = seams_of(adapter)
            except (DriverError, MissingExtraError) as error:
                if request.adapters is not None:
                    raise
                skipped.append(Caution(code="adapter.missing", where=adapter, reason=str(error)))
                continue
            results.append(
                drive_seams(
                    adapter, seams, accept=request.accept, approvals=_deciding, progress=progress
                )
            )
    return results, skipped


def _deciding(kernel: Kernel) -> Callable[[str, bool, str, str], object]:
    return Approvals(kernel).decide


def _unused(accept: Sequence[str], report: Report) -> Iterator[Caution]:
    accepted = [f"{s.adapter}.{s.name}" for s in report.seams if s.status == "accepted"]
    for pattern in accept:
        if not any(fnmatchcase(name, pattern) for name in accepted):
            yield Caution(
                code="accept.unused",
                where=f"--accept {pattern}",
                reason="no declared gap has this name",
                hint="leave it out, or correct it",
            )


@contextmanager
def _progress() -> Iterator[Progress]:
    """Show how far it is on stderr, once a run takes longer than a second."""
    start = time.monotonic()
    terminal = sys.stderr.isatty()
    said = 0

    def tell(seam: str, done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - start < _QUIET_S or (said and not terminal):
            return
        text = f"driving {seam} ({done + 1} of {total})"
        said += 1
        sys.stderr.write(f"\r\x1b[K{text}" if terminal else f"{text} ...\n")
        sys.stderr.flush()

    try:
        yield tell
    finally:
        if said and terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
