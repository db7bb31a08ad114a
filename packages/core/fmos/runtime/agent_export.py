"""Exports one agent: its whole branch, contract and tools in one signed file."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from agentfs import AgentFS
from agentfs.carry import carry_tree
from agentfs.errors import InvalidArgument
from fmos.contract.model import AgentContract
from fmos.contract.parse import dump_text, load_text
from fmos.errors import ArgumentError, FmosError, NotFoundError
from fmos.ledger.owners import is_dead, owner_of, owner_text, this_process
from fmos.runtime import transferfile
from fmos.runtime.carriers import Carrier, carriers_of
from fmos.runtime.kernel import Kernel
from fmos.runtime.transferfile import CONTRACT, JOURNAL, SERVERS, VOLUME, TransferManifest
from fmos.types import Principal, Record

_EXPORTS = "export-"
#: How long work counts as going on whose process cannot be told; then it was left.
UNKNOWN_S = 86400


class Exported(Record):
    """A file that was written, and what is in it."""

    path: str
    sha256: str
    manifest: TransferManifest


def export_agent(
    kernel: Kernel,
    principal: Principal,
    target_file: str | os.PathLike[str],
    *,
    person: str = "",
    carriers: Sequence[Carrier] | None = None,
    replace: bool = False,
) -> Exported:
    """Write an agent as it is at one moment to a file, signed with its tenant's key.

    Raises:
        NotFoundError: if the agent has no branch.
        ArgumentError: if the file exists and `replace` is False, or the branch is laid over a host
            directory.
        StorageError: if the file cannot be written.
    """
    target = Path(target_file).absolute()
    if os.path.lexists(target) and not replace:
        raise transferfile.exists(target)
    fs = kernel.known_agent_fs(principal)
    if fs is None:
        raise NotFoundError(
            f"the tenant {principal.tenant!r} has no agent {principal.agent_key!r}",
            hint="`fmos agent list` shows them",
        )
    servers = {each.name: each.export_state(principal) for each in carriers_of(kernel, carriers)}
    run = kernel.home.path / "run"
    prefix = f"{_EXPORTS}{owner_text(this_process()) or os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=run) as name:
        folder = Path(name)
        manifest = _gathered(kernel, principal, fs, folder)
        (folder / SERVERS).write_text(json.dumps(servers), encoding="utf-8")
        keys = kernel.keys_of(principal.tenant)
        digest = transferfile.write(target, manifest, folder, keys, replace=replace)
    detail = {"agent": principal.agent_key, "sha256": digest, "person": person}
    kernel.record(principal, "agent.export", detail)
    return Exported(path=str(target), sha256=digest, manifest=manifest)


def remove_left(kernel: Kernel) -> None:
    """Remove what exports left that were killed; they have left no agent."""
    for folder in (kernel.home.path / "run").glob(f"{_EXPORTS}*"):
        if _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _gathered(kernel: Kernel, who: Principal, fs: AgentFS, folder: Path) -> TransferManifest:
    """Write an agent's volume, contract and journal rows to a folder."""
    lineage = kernel.agents.lineage(who)
    contracts = _contracts(kernel, lineage)
    with AgentFS.open(folder / VOLUME, system=True, principal="fmos") as volume:
        with fs.reading():
            try:
                totals = carry_tree(fs, volume)
            except InvalidArgument as error:
                raise ArgumentError(
                    f"the agent {who.agent_key!r} cannot be exported: {error}"
                ) from error
            last = _write_journal(fs, folder / JOURNAL)
        volume.gc(retention=0)  # how it came in is nobody's history
    if contracts:
        (folder / CONTRACT).write_text(_document(kernel, contracts[0]), encoding="utf-8")
    return TransferManifest(
        tenant=who.tenant,
        application=who.application,
        agent=who.agent,
        exported_ns=kernel.clock.now_ns(),
        public_key=kernel.keys_of(who.tenant).public_key,
        journal_seq=last[0],
        journal_hash=last[1],
        contract=contracts[0].name if contracts else "",
        narrowed_by=tuple(each.name for each in contracts[1:]),
        files=totals.files,
        directories=totals.directories,
        symlinks=totals.symlinks,
        bytes=totals.bytes,
    )


def _write_journal(fs: AgentFS, path: Path) -> tuple[int, str]:
    """Write the rows of a branch as lines of JSON; return number and hash of the last one."""
    last = (0, "")
    with open(path, "w", encoding="utf-8") as file:
        for row in fs.journal(branch=fs.branch):
            said = {
                "seq": row.seq, "time_ns": row.time_ns, "principal": row.principal,
                "branch": row.branch, "operation": row.operation, "path": row.path,
                "path2": row.path2, "before": row.before, "after": row.after,
                "detail": row.detail, "hash": row.hash.hex(),
            }  # fmt: skip
            file.write(json.dumps(said, sort_keys=True) + "\n")
            last = (row.seq, row.hash.hex())
    return last


def _contracts(kernel: Kernel, lineage: Iterable[str]) -> list[AgentContract]:
    """Return the contracts of an agent and of those that it descends from, its own first."""
    names = dict.fromkeys(key.rpartition(":")[2] for key in lineage)
    found = (kernel.contracts.get(name) for name in names)
    return [each for each in found if each is not None]


def _document(kernel: Kernel, contract: AgentContract) -> str:
    """Return a contract as it is written, where a file holds it alone; else what it says."""
    for suffix in (".yaml", ".yml"):
        try:
            text = (kernel.home.contracts / f"{contract.name}{suffix}").read_text(encoding="utf-8")
            if load_text(text) == contract:
                return text
        except (OSError, UnicodeDecodeError, FmosError):
            continue
    return dump_text(contract)


def _is_abandoned(folder: Path) -> bool:
    """Return whether the process that exports is gone; where none is known, a day must tell."""
    owner = owner_of(folder.name.removeprefix(_EXPORTS).rpartition("-")[0])
    if owner is not None:
        return is_dead(owner)
    try:
        return folder.stat().st_mtime < time.time() - UNKNOWN_S
    except OSError:  # it went away meanwhile
        return False
