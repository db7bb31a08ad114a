"""Migrates one agent: its whole branch, contract and tools in one signed file, and back in.

An import never takes an id that is in use, and never grants: the contract that comes along is laid
beside the home's contracts for a person to install. The branch is made in one transaction; until
all else has arrived the agent is `importing` and may do nothing, and whatever a killed process
left of that is finished, or taken away again, by whoever looks next (`recover`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import yaml

from agentfs import AgentFS
from agentfs.carry import carry_tree
from agentfs.errors import InvalidArgument, RefExists
from fmos.contract.model import AgentContract
from fmos.contract.parse import load_text
from fmos.errors import ArgumentError, ContractError, FmosError, NotFoundError
from fmos.ledger.owners import Owner, is_dead, owner_of, owner_text, this_process
from fmos.runtime import transferfile
from fmos.runtime.kernel import Kernel
from fmos.runtime.states import AgentState, AgentStates, StateRow
from fmos.runtime.transferfile import CONTRACT, JOURNAL, MANIFEST, SERVERS, VOLUME, TransferManifest
from fmos.types import TEMPLATE_BRANCH, Principal, Record, checked_id, new_id

#: Where in the home the papers of imported agents lie.
PAPERS = "imported"

_EVENT = "agent.import"
_EXPORTS = "export-"
_DAY_S = 86400
_NAME = re.compile(r"^name:[ \t]*\S+", re.MULTILINE)


class Carrier(Protocol):
    """What a server does for an agent that moves; every `Toolset` is one."""

    name: ClassVar[str]

    def export_state(self, who: Principal) -> dict[str, Any]:
        """Return what the server keeps of an agent outside its branch."""
        ...

    def index_branch(self, who: Principal, fs: AgentFS) -> None:
        """Index what came with a branch, in the transaction that brings it."""
        ...

    def import_state(self, who: Principal, state: dict[str, Any]) -> None:
        """Keep what `export_state` returned elsewhere; may be called again."""
        ...


class Exported(Record):
    """A file that was written, and what is in it."""

    path: str
    sha256: str
    manifest: TransferManifest


class Imported(Record):
    """An agent that was imported, and where its papers lie."""

    tenant: str
    agent: str
    state: AgentState
    papers: str
    contract: str = ""
    contract_installed: bool = False
    manifest: TransferManifest


def export_agent(
    kernel: Kernel,
    principal: Principal,
    target_file: str | os.PathLike[str],
    *,
    person: str = "",
    carriers: Sequence[Carrier] | None = None,
) -> Exported:
    """Write an agent as it is at one moment to a new file, signed with its tenant's key.

    Raises:
        NotFoundError: if the agent has no branch.
        ArgumentError: if the file exists, or the branch is laid over a host directory.
        StorageError: if the file cannot be written.
    """
    target = Path(target_file).absolute()
    if os.path.lexists(target):
        raise transferfile.exists(target)
    fs = kernel.known_agent_fs(principal)
    if fs is None:
        raise NotFoundError(
            f"the tenant {principal.tenant!r} has no agent {principal.agent_key!r}",
            hint="`fmos agent list` shows them",
        )
    servers = {each.name: each.export_state(principal) for each in _carriers(kernel, carriers)}
    run = kernel.home.path / "run"
    prefix = f"{_EXPORTS}{owner_text(this_process()) or os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=run) as name:
        folder = Path(name)
        manifest = _gathered(kernel, principal, fs, folder)
        (folder / SERVERS).write_text(json.dumps(servers), encoding="utf-8")
        digest = transferfile.write(target, manifest, folder, kernel.keys_of(principal.tenant))
    detail = {"agent": principal.agent_key, "sha256": digest, "person": person}
    kernel.record(principal, "agent.export", detail)
    return Exported(path=str(target), sha256=digest, manifest=manifest)


def import_agent(
    kernel: Kernel,
    file: str | os.PathLike[str],
    *,
    tenant: str = "default",
    application: str | None = None,
    agent: str = "",
    trust_keys: Iterable[str] = (),
    install_contract: bool = False,
    paused: bool = False,
    person: str = "",
    carriers: Sequence[Carrier] | None = None,
) -> Imported:
    """Make an agent from a file; all of it, or nothing.

    Args:
        kernel: The home that it comes to.
        file: What `export_agent` wrote.
        tenant: The tenant that it comes to.
        application: Of which application it is then; None: of the same as before.
        agent: Its id there; by default the one that it had.
        trust_keys: Public keys of other tenants, in base64, whose exports are taken as well.
        install_contract: Install its contract, if the home has none of that name.
        paused: Let it begin paused.
        person: Who imports it.
        carriers: The servers of the home; by default all that are installed.

    Raises:
        ArgumentError: if the file is not signed by a trusted key, was altered, or the id is taken.
        FormatError: if it is no exported agent, or is cut short.
    """
    path = Path(file).absolute()
    trusted = [kernel.keys_of(tenant).public_key, *trust_keys]
    manifest = transferfile.read_manifest(path, trusted)
    who = Principal(
        tenant=checked_id(tenant, "a tenant id"),
        application=manifest.application if application is None else application,
        agent=checked_id(agent or manifest.agent, "an agent id"),
    )
    servers = _carriers(kernel, carriers)
    recover(kernel, carriers=servers)
    row = _claimed(kernel, who, person, install=install_contract, paused=paused)
    folder = _folder(kernel, row)
    try:
        folder.mkdir(mode=0o700)
        transferfile.extract(path, manifest, folder)
        said = manifest.model_dump_json(indent=2)
        (folder / MANIFEST).write_text(said, encoding="utf-8")
        _bring(kernel, who, folder, row, servers)
    except BaseException:
        if not _arrived(kernel, row):
            _forget(kernel, row)
        raise
    state, installed = _finish(kernel, row, servers)
    contract = _papers(kernel, row) / CONTRACT
    return Imported(
        tenant=row.tenant,
        agent=row.agent,
        state=state,
        papers=str(contract.parent),
        contract=str(contract) if contract.exists() else "",
        contract_installed=installed,
        manifest=manifest,
    )


def recover(kernel: Kernel, *, carriers: Sequence[Carrier] | None = None) -> int:
    """Finish or take away what killed imports left, and what killed exports; return how many.

    Only imports are counted: an export that was killed has left no agent.
    """
    states = AgentStates(kernel.database)
    left = [row for row in states.unnoted() if row.state is AgentState.IMPORTING and _is_left(row)]
    for row in left:
        if _arrived(kernel, row):
            _finish(kernel, row, _carriers(kernel, carriers))
        else:
            _forget(kernel, row)
    for folder in (kernel.home.path / "run").glob(f"{_EXPORTS}*"):
        if _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)
    return len(left)


# -- out -----------------------------------------------------------------------------------------


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
    return _dumped(contract)


def _dumped(contract: AgentContract) -> str:
    said = contract.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    head = {"apiVersion": "agentos/v0.2", "kind": "AgentContract"}
    return yaml.safe_dump({**head, **said}, sort_keys=False)


# -- in ------------------------------------------------------------------------------------------


def _claimed(
    kernel: Kernel, who: Principal, person: str, *, install: bool, paused: bool
) -> StateRow:
    """Take an id that nobody has for the time of the import."""
    states, change = AgentStates(kernel.database), new_id()
    detail = {"install": install, "paused": paused, "owner": list(this_process() or ())}
    row = StateRow(
        who.tenant, who.agent_key, AgentState.IMPORTING, kernel.clock.now_ns(), person, "", change,
        _EVENT, detail,
    )  # fmt: skip
    with kernel.database.transaction():
        if states.get(who) is not None or kernel.known_agent_fs(who) is not None:
            raise _taken(who)
        kernel.agents.register(who)
        return states.put(row)


def _taken(who: Principal) -> ArgumentError:
    return ArgumentError(
        f"the agent id {who.agent_key!r} is taken in the tenant {who.tenant!r}, and an import"
        " replaces nothing",
        hint="choose another id with --as",
    )


def _bring(
    kernel: Kernel, who: Principal, folder: Path, row: StateRow, servers: Sequence[Carrier]
) -> None:
    """Make the branch and its journal row, in one transaction."""
    volume = kernel.volume(who.tenant)
    manifest = _read_manifest(folder)
    with (
        AgentFS.open(folder / VOLUME, create=False, system=True) as source,
        volume.transaction(),
    ):
        try:
            volume.fork(who.branch_name, source=TEMPLATE_BRANCH)
        except RefExists as error:  # a snapshot has the name, or the agent was used meanwhile
            raise _taken(who) from error
        target = volume.on(who.branch_name, system=True, principal=str(who))
        carry_tree(source, target)
        for server in servers:
            server.index_branch(who, target)
        target.record(_EVENT, _said(row, manifest))


def _said(row: StateRow, manifest: TransferManifest) -> dict[str, Any]:
    """What the journal says of an import: where the agent comes from, and by whose word."""
    origin = {"tenant": manifest.tenant, "agent": manifest.agent, "key": manifest.public_key}
    state = {"seq": manifest.journal_seq, "hash": manifest.journal_hash}
    whole = manifest.members[VOLUME].sha256
    return {
        "agent": row.agent, "person": row.person, "change": row.change, "from": origin,
        "journal": state, "volume": whole,
    }  # fmt: skip


def _finish(kernel: Kernel, row: StateRow, servers: Sequence[Carrier]) -> tuple[AgentState, bool]:
    """Bring what lies outside the branch, and let the agent go; may be repeated.

    Returns the agent's state, and whether its contract was installed. Papers that are gone, as in
    a home from a backup, are done without.
    """
    who, folder, papers = _principal(row), _folder(kernel, row), _papers(kernel, row)
    if folder.exists():
        _import_state(who, folder, servers)
        _rename_contract(folder, who)
        (folder / VOLUME).unlink(missing_ok=True)
        papers.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.rename(folder, papers)
    installed = bool(row.detail["install"]) and _installed(kernel, who, papers)
    state = AgentState.PAUSED if row.detail["paused"] else AgentState.RUNNING
    with kernel.database.transaction():
        AgentStates(kernel.database).put(replace(row, state=state, noted=True))
    return state, installed


def _papers(kernel: Kernel, row: StateRow) -> Path:
    """Return the folder where the papers of an imported agent lie in the end."""
    name = f"{row.agent.replace(':', '~')}-{row.change}"
    return kernel.home.path / PAPERS / row.tenant / name


def _import_state(who: Principal, folder: Path, servers: Sequence[Carrier]) -> None:
    text = (folder / SERVERS).read_text(encoding="utf-8") if (folder / SERVERS).exists() else "{}"
    states: dict[str, Any] = json.loads(text)
    for server in servers:
        server.import_state(who, states.get(server.name, {}))


def _rename_contract(folder: Path, who: Principal) -> None:
    """Let the contract that came along name the agent by its new id."""
    path = folder / CONTRACT
    if path.exists():
        with suppress(ContractError):  # one that this version cannot read stays as it is
            path.write_text(_renamed(path.read_text(encoding="utf-8"), who.agent), encoding="utf-8")


def _renamed(text: str, name: str) -> str:
    contract = load_text(text)
    if contract.name == name:
        return text
    changed = _NAME.sub(f"name: {json.dumps(name)}", text, count=1)
    with suppress(ContractError):
        if load_text(changed).name == name:
            return changed
    return _dumped(contract.model_copy(update={"name": name}))


def _installed(kernel: Kernel, who: Principal, papers: Path) -> bool:
    """Install the contract that came along, unless the home has one of that name."""
    path = papers / CONTRACT
    if not path.exists() or _has_contract(kernel, who.agent):
        return False
    with suppress(ContractError):
        kernel.contracts.save(path.read_text(encoding="utf-8"))
        return True
    return False


def _has_contract(kernel: Kernel, name: str) -> bool:
    """Return whether the home has a contract of a name; a broken one is one."""
    try:
        return kernel.contracts.get(name) is not None
    except ContractError:
        return True


def _arrived(kernel: Kernel, row: StateRow) -> bool:
    """Return whether the branch of an import is there."""
    fs = kernel.known_agent_fs(_principal(row))
    if fs is None:
        return False
    rows = fs.journal(operation=_EVENT, branch=fs.branch)
    return any(each.detail.get("change") == row.change for each in rows)


def _forget(kernel: Kernel, row: StateRow) -> None:
    """Take away what an import left that made no branch."""
    shutil.rmtree(_folder(kernel, row), ignore_errors=True)
    with kernel.database.transaction():
        AgentStates(kernel.database).remove(row)


def _is_left(row: StateRow) -> bool:
    """Return whether the process that imports is gone."""
    owner: list[Any] = row.detail.get("owner") or []
    return len(owner) != len(Owner._fields) or is_dead(Owner(*owner))


def _is_abandoned(folder: Path) -> bool:
    """Return whether the process that exports is gone; where none is known, a day must tell."""
    owner = owner_of(folder.name.removeprefix(_EXPORTS).rpartition("-")[0])
    if owner is not None:
        return is_dead(owner)
    try:
        return folder.stat().st_mtime < time.time() - _DAY_S
    except OSError:  # it went away meanwhile
        return False


def _folder(kernel: Kernel, row: StateRow) -> Path:
    return kernel.home.path / "run" / f"import-{row.change}"


def _read_manifest(folder: Path) -> TransferManifest:
    return TransferManifest.model_validate_json((folder / MANIFEST).read_text(encoding="utf-8"))


def _principal(row: StateRow) -> Principal:
    application, _, agent = row.agent.rpartition(":")
    return Principal(tenant=row.tenant, application=application, agent=agent)


def _carriers(kernel: Kernel, given: Sequence[Carrier] | None) -> Sequence[Carrier]:
    """Return the servers that take part: those given, else all that are installed."""
    if given is not None:
        return given
    from fmos.serving.discovery import discover  # noqa: PLC0415 - imports every server

    return [each(kernel) for each in discover().found.values()]
