"""Imports one agent from the file that `agent_export` wrote.

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
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from agentfs import AgentFS
from agentfs.carry import carry_tree
from agentfs.errors import RefExists
from fmos.contract.parse import dump_text, load_text
from fmos.errors import ArgumentError, ContractError
from fmos.ledger.owners import Owner, is_dead, this_process
from fmos.runtime import transferfile
from fmos.runtime.agent_export import UNKNOWN_S, remove_left
from fmos.runtime.carriers import Carrier, carriers_of
from fmos.runtime.kernel import Kernel
from fmos.runtime.states import AgentState, AgentStates, StateRow
from fmos.runtime.transferfile import CONTRACT, MANIFEST, SERVERS, VOLUME, TransferManifest
from fmos.storage import wholefile
from fmos.types import TEMPLATE_BRANCH, Principal, Record, checked_id, new_id

#: Where in the home the papers of imported agents lie.
PAPERS = "imported"

_EVENT = "agent.import"
_NAME = re.compile(r"^name:[ \t]*\S+", re.MULTILINE)


class Imported(Record):
    """An agent that was imported, and where its papers lie."""

    tenant: str
    agent: str
    state: AgentState
    papers: str
    contract: str = ""
    contract_installed: bool = False
    manifest: TransferManifest


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
        trust_keys: Public keys of other tenants, in base64, whose exports are taken as well. The
            tenant's own are trusted, a former one for what it signed before it was given up.
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
    manifest = transferfile.read_manifest(path, trusted, kernel.key_history(tenant))
    who = Principal(
        tenant=checked_id(tenant, "a tenant id"),
        application=manifest.application if application is None else application,
        agent=checked_id(agent or manifest.agent, "an agent id"),
    )
    servers = carriers_of(kernel, carriers)
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
    now_ns = kernel.clock.now_ns()
    begun = (row for row in states.unnoted() if row.state is AgentState.IMPORTING)
    left = [row for row in begun if _is_left(row, now_ns)]
    for row in left:
        if _arrived(kernel, row):
            _finish(kernel, row, carriers_of(kernel, carriers))
        else:
            _forget(kernel, row)
    remove_left(kernel)
    return len(left)


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
            wholefile.write_text(path, _renamed(path.read_text(encoding="utf-8"), who.agent))


def _renamed(text: str, name: str) -> str:
    contract = load_text(text)
    if contract.name == name:
        return text
    changed = _NAME.sub(f"name: {json.dumps(name)}", text, count=1)
    with suppress(ContractError):
        if load_text(changed).name == name:
            return changed
    return dump_text(contract.model_copy(update={"name": name}))


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


def _is_left(row: StateRow, now_ns: int) -> bool:
    """Return whether the process that imports is gone; where none is known, a day must tell."""
    owner: list[Any] = row.detail.get("owner") or []
    if len(owner) == len(Owner._fields):
        return is_dead(Owner(*owner))
    return row.since_ns < now_ns - UNKNOWN_S * 1_000_000_000


def _folder(kernel: Kernel, row: StateRow) -> Path:
    return kernel.home.path / "run" / f"import-{row.change}"


def _read_manifest(folder: Path) -> TransferManifest:
    return TransferManifest.model_validate_json((folder / MANIFEST).read_text(encoding="utf-8"))


def _principal(row: StateRow) -> Principal:
    application, _, agent = row.agent.rpartition(":")
    return Principal(tenant=row.tenant, application=application, agent=agent)
