"""One agent moves from one home to another: all of it, or nothing."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.core.waiting import until

from agentfs import AgentFS
from fmos.audit.checkpoints import rotate
from fmos.audit.keys import AuditKeys
from fmos.client import connect
from fmos.errors import ArgumentError, FmosError, FormatError, NotFoundError, StorageError
from fmos.ledger.owners import owner_text, this_process
from fmos.runtime import agent_export
from fmos.runtime.agent_export import export_agent
from fmos.runtime.agent_import import import_agent, recover
from fmos.runtime.kernel import Kernel
from fmos.runtime.lifecycle import Lifecycle
from fmos.runtime.states import AgentState, AgentStates
from fmos.runtime.transferfile import TransferManifest, extract, read_manifest, write
from fmos.traps.manifest import ToolDescriptor
from fmos.types import Principal
from fmos_trust.store import TrustStore

WRITER = Principal(agent="writer", session="s1")
CONTRACT = """# who writes the notes
apiVersion: agentos/v0.2
kind: AgentContract
name: writer   # its id
capabilities: ["fs.read"]
security: { paths: { read: ["/work/**"] } }
"""
READ = ToolDescriptor(name="read_file", capability="fs.read", effect="read", roles={"path": "path"})


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Kernel]:
    """Another home."""
    with Kernel.open(tmp_path / "other") as opened:
        yield opened


def tree(fs: AgentFS) -> dict[str, tuple[Any, ...]]:
    """Return all that a branch says of each path, but the time of its own change."""
    found: dict[str, tuple[Any, ...]] = {}
    waiting = ["/"]
    while waiting:
        path = waiting.pop()
        info = fs.lstat(path)
        content = fs.read(path) if info.is_file else fs.readlink(path) if info.is_symlink else b""
        attributes = () if info.is_symlink else tuple(
            (name, fs.getxattr(path, name)) for name in fs.listxattr(path)
        )  # fmt: skip
        same = (info.kind, info.mode, info.mtime_ns, info.atime_ns, info.uid, info.gid, info.device)
        found[path] = (*same, content, attributes, 0 if info.is_dir else info.links)
        if info.is_dir:
            waiting += [entry.path for entry in fs.scandir(path)]
    return found


NAMES = st.sampled_from(["a", "b", "ä", "-x", "c d", ".fmos", "e" * 200])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
CONTENT = st.one_of(
    st.binary(max_size=300), st.integers(1, 3).map(lambda n: bytes(range(256)) * 1000 * n)
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), PATHS, CONTENT),
        st.tuples(st.just("mkdir"), PATHS, st.none()),
        st.tuples(st.just("link"), PATHS, PATHS),
        st.tuples(st.just("symlink"), PATHS, PATHS),
        st.tuples(st.just("chmod"), PATHS, st.integers(0, 0o7777)),
        st.tuples(st.just("utime"), PATHS, st.integers(0, 2**60)),
        st.tuples(st.just("setxattr"), PATHS, st.binary(max_size=20)),
        st.tuples(st.just("truncate"), PATHS, st.integers(0, 400_000)),
        st.tuples(st.just("chown"), PATHS, st.integers(0, 70_000)),
        st.tuples(st.just("mknod"), PATHS, st.sampled_from([0o010600, 0o020644])),
        st.tuples(st.just("remove"), PATHS, st.none()),
        st.tuples(st.just("rename"), PATHS, PATHS),
        st.tuples(st.just("kv"), st.text(max_size=5), st.integers()),
    ),
    max_size=25,
)


def apply(fs: AgentFS, verb: str, path: str, value: Any) -> None:
    """Do one step; what cannot be done is left out."""
    try:
        if verb == "kv":
            fs.kv.set(path, value)
        elif verb == "write":
            fs.mkdir(path.rpartition("/")[0] or "/", parents=True, exist_ok=True)
            fs.write(path, value)
        elif verb == "mkdir":
            fs.mkdir(path, parents=True)
        elif verb == "setxattr":
            fs.setxattr(path, "user.note", value)
        elif verb == "symlink":
            fs.symlink(value, path)
        elif verb == "remove":
            fs.remove(path, recursive=True)
        else:
            getattr(fs, verb)(path, value)
    except (OSError, ValueError):
        pass


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_a_round_trip_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, Any]]
) -> None:
    """Whatever a branch holds, the one that arrives is equal, and goes back as it came."""
    folder = tmp_path_factory.mktemp("trip")
    with Kernel.open(folder / "one") as here, Kernel.open(folder / "two") as there:
        fs = here.agent_fs(WRITER)
        for step in steps:
            apply(fs, *step)
        out = export_agent(here, WRITER, folder / "a.fmos", carriers=())
        key = out.manifest.public_key
        import_agent(there, folder / "a.fmos", trust_keys=[key], agent="moved", carriers=())
        moved = Principal(agent="moved")
        assert tree(there.agent_fs(moved)) == tree(fs)
        back = export_agent(there, moved, folder / "b.fmos", carriers=())
        keys = [back.manifest.public_key]
        import_agent(here, folder / "b.fmos", agent="back", trust_keys=keys, carriers=())
        assert list(fs.diff("writer", "back")) == []
        assert there.volume("default").fsck(read_data=True) == []
        assert there.volume("default").verify_journal().ok


def export(kernel: Kernel, path: Path) -> str:
    """Export the writer and return the key that signed it."""
    return export_agent(kernel, WRITER, path, person="user:ada").manifest.public_key


def test_memory_tools_and_evidence_come_along(
    kernel: Kernel, other: Kernel, tmp_path: Path
) -> None:
    """The search finds the same, the trap table says the same, and the old rows can be read."""
    kernel.contracts.save(CONTRACT)
    here = connect(WRITER, kernel=kernel)
    for number in range(12):
        text = f"note {number}: the {'sea' if number % 3 else 'sky'} is blue"
        here.call("memory_write", {"text": text, "namespace": f"n{number % 4}"})
    tools = {"tools": [READ.model_dump(mode="json")]}
    here.call("trust_register_tools", tools)
    here.call("context_open", {})
    here.call("context_append", {"role": "user", "text": "API_TOKEN=Zq8rT2mVx91LpW4k"})
    key = export(kernel, tmp_path / "w.fmos")
    done = import_agent(
        other, tmp_path / "w.fmos", trust_keys=[key], install_contract=True, person="user:bob"
    )
    assert done.contract_installed
    there = connect(WRITER, kernel=other)
    for query in ("blue", "sky", "note 7"):
        asked = {"query": query, "limit": 20}
        one, two = (each.call("memory_search", asked)["hits"] for each in (here, there))
        assert [hit["id"] for hit in one] == [hit["id"] for hit in two]
        assert one
    rules = [each.call("trust_table")["rules"] for each in (here, there)]
    assert rules[0] == rules[1] != []
    composed = [each.call("context_compose")["messages"] for each in (here, there)]
    assert composed[0] == composed[1] != []
    known = TrustStore(other.database).secrets("default", ["writer"])
    assert [each.source for each in known] == ["import:.fmos/context"]

    papers = Path(done.papers)
    rows = [json.loads(line) for line in (papers / "journal.jsonl").read_text().splitlines()]
    assert {"memory.write", "trust.tools"} <= {row["operation"] for row in rows}
    assert "memory.write" not in {row.operation for row in other.volume("default").journal()}
    assert rows[-1]["hash"] == done.manifest.journal_hash
    assert papers.stat().st_mode & 0o077 == 0
    [row] = other.volume("default").journal(operation="agent.import")
    assert row.detail["from"] == {"tenant": "default", "agent": "writer", "key": key}
    assert row.detail["person"] == "user:bob"
    [out] = kernel.volume("default").journal(operation="agent.export")
    assert out.detail["person"] == "user:ada"


class State(TypedDict):
    """What the graph keeps."""

    answer: str


def test_a_framework_goes_on_where_it_was(kernel: Kernel, other: Kernel, tmp_path: Path) -> None:
    """A LangGraph thread that waits for a person is answered in the other home."""
    pytest.importorskip("langgraph")
    from langgraph.graph import END, START, StateGraph
    from langgraph.types import Command, interrupt

    from fmos_langgraph import FmosSaver

    def ask(state: State) -> State:
        return {"answer": f"{state['answer']}, {interrupt('what else?')}"}

    graph: Any = StateGraph(State)
    graph.add_node("ask", ask)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    config: Any = {"configurable": {"thread_id": "t"}}
    here = graph.compile(FmosSaver.from_fs(kernel.agent_fs(WRITER)))
    here.invoke({"answer": "first"}, config)
    key = export(kernel, tmp_path / "w.fmos")
    import_agent(other, tmp_path / "w.fmos", trust_keys=[key])
    there = graph.compile(FmosSaver.from_fs(other.agent_fs(WRITER)))
    assert there.get_state(config).next == ("ask",)
    assert there.invoke(Command(resume="second"), config)["answer"] == "first, second"


def test_an_import_grants_nothing(kernel: Kernel, other: Kernel, tmp_path: Path) -> None:
    """The contract is laid aside, under the agent's new name; one that is there is not replaced."""
    kernel.contracts.save(CONTRACT)
    kernel.agent_fs(WRITER)
    key = export(kernel, tmp_path / "w.fmos")
    done = import_agent(other, tmp_path / "w.fmos", trust_keys=[key], agent="w2", paused=True)
    assert other.contract(Principal(agent="w2")) is None
    assert not done.contract_installed
    text = Path(done.contract).read_text()
    assert text == CONTRACT.replace("name: writer", 'name: "w2"')
    assert Lifecycle(other).show(Principal(agent="w2")).state == "paused"
    mine = CONTRACT.replace("fs.read", "fs.write")
    other.contracts.save(mine)
    done = import_agent(other, tmp_path / "w.fmos", trust_keys=[key], install_contract=True)
    assert not done.contract_installed
    found = other.contract(WRITER)
    assert found is not None
    assert list(found.capabilities) == ["fs.write"]


def rezip(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Write an archive anew with other members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def altered(name: str) -> Callable[[dict[str, bytes]], None]:
    """Return a change of one byte in the middle of a member."""

    def change(members: dict[str, bytes]) -> None:
        data = bytearray(members[name])
        data[len(data) // 2] ^= 1
        members[name] = bytes(data)

    return change


FAULTS: dict[str, tuple[Callable[[dict[str, bytes]], Any], str]] = {
    "unsigned": (lambda m: m.pop("manifest.sig"), "not signed"),
    "other manifest": (altered("manifest.json"), "signature|format"),
    "other signature": (lambda m: m.update({"manifest.sig": b"AAAA"}), "signature"),
    "other volume": (altered("agent.afs"), r"agent\.afs"),
    "other contract": (altered("contract.yaml"), r"contract\.yaml"),
    "other rows": (altered("journal.jsonl"), r"journal\.jsonl"),
    "other tools": (altered("servers.json"), r"servers\.json"),
    "missing": (lambda m: m.pop("contract.yaml"), "manifest lists"),
    "more": (lambda m: m.update({"../evil": b"x"}), "manifest lists"),
    "longer": (lambda m: m.update({"agent.afs": m["agent.afs"] + b"x"}), r"agent\.afs"),
}


@pytest.fixture
def exported(kernel: Kernel, tmp_path: Path) -> tuple[Path, str]:
    """A file with the writer, and the key that signed it."""
    kernel.contracts.save(CONTRACT)
    kernel.agent_fs(WRITER).write("/a", b"1" * 5000)
    return tmp_path / "w.fmos", export(kernel, tmp_path / "w.fmos")


def nothing_came(other: Kernel) -> None:
    """Check that a home has nothing of an agent."""
    assert Lifecycle(other).listing("default") == []
    assert AgentStates(other.database).get(WRITER) is None
    assert not [each for each in os.listdir(other.home.path / "run") if "import" in each]
    assert not (other.home.path / "imported").exists()


@pytest.mark.parametrize("name", FAULTS)
def test_what_was_not_signed_is_refused(
    name: str, exported: tuple[Path, str], other: Kernel
) -> None:
    """Whatever was changed on the way, the import says what, and nothing of it is there."""
    path, key = exported
    change, said = FAULTS[name]
    rezip(path, change)
    with pytest.raises((ArgumentError, FormatError), match=said):
        import_agent(other, path, trust_keys=[key])
    nothing_came(other)


def test_no_changed_byte_gets_through(exported: tuple[Path, str], tmp_path: Path) -> None:
    """Wherever a byte of the file is another, it is refused with a sentence, or means the same."""
    path, key = exported
    whole = path.read_bytes()
    manifest = read_manifest(path, [key])
    made = tmp_path / "whole"
    made.mkdir()
    extract(path, manifest, made)
    places = random.Random(7).sample(range(len(whole)), 120)
    for at in [*places, *range(len(whole) - 60, len(whole))]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        target = tmp_path / f"at{at}"
        target.mkdir()
        try:
            found = read_manifest(path, [key])
            extract(path, found, target)
        except (ArgumentError, FormatError):
            continue
        assert found == manifest, at
        for each in os.listdir(made):
            assert (target / each).read_bytes() == (made / each).read_bytes(), at


def test_a_file_that_is_cut_short_is_refused(exported: tuple[Path, str], other: Kernel) -> None:
    """At whatever byte it ends, and also if it is something else."""
    path, key = exported
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 3, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(FormatError, match="cut short"):
            import_agent(other, path, trust_keys=[key])
    with pytest.raises(ArgumentError, match="no file"):
        import_agent(other, path.with_name("nothing"))
    nothing_came(other)


def test_a_foreign_key_must_be_named(exported: tuple[Path, str], other: Kernel) -> None:
    """Another tenant's export is taken only with its key; one's own without."""
    path, key = exported
    with pytest.raises(ArgumentError, match="--trust-key"):
        import_agent(other, path)
    with pytest.raises(ArgumentError, match="--trust-key"):
        import_agent(other, path, trust_keys=[other.keys_of("acme").public_key])
    nothing_came(other)
    import_agent(other, path, trust_keys=[key])


def test_an_export_under_the_tenants_former_key_is_taken(
    exported: tuple[Path, str], kernel: Kernel, tmp_path: Path
) -> None:
    """A key that was given up vouches for what it signed before; a stolen one for nothing after."""
    path, key = exported
    keys = kernel.home.keys / "default"
    shutil.copytree(keys, tmp_path / "stolen")
    change = rotate(kernel, "default")
    assert change.previous == key
    assert import_agent(kernel, path, agent="former").state == "running"
    manifest = read_manifest(path, [key])
    late = manifest.model_copy(update={"journal_seq": change.final + 1})
    folder = tmp_path / "members"
    folder.mkdir()
    extract(path, manifest, folder)
    forged = tmp_path / "forged.fmos"
    write(forged, late, folder, AuditKeys(tmp_path / "stolen"))
    with pytest.raises(ArgumentError, match="not this tenant's present one"):
        import_agent(kernel, forged, agent="forged")


def test_an_import_of_an_unknown_process_is_left_alone_for_a_day(
    exported: tuple[Path, str], kernel: Kernel
) -> None:
    """Where /proc says nothing, an import may still run: only one that is a day old is given up."""
    path, _ = exported
    import_agent(kernel, path, agent="w2")
    states, who = AgentStates(kernel.database), Principal(agent="w2")
    row = states.get(who)
    assert row is not None
    ago = kernel.clock.now_ns() - 23 * 3600 * 10**9
    begun = replace(row, state=AgentState.IMPORTING, noted=False, since_ns=ago)
    states.put(replace(begun, detail={**row.detail, "owner": []}))
    assert recover(kernel) == 0
    assert Lifecycle(kernel).show(who).state == "importing"
    states.put(replace(begun, detail={**row.detail, "owner": []}, since_ns=ago - 2 * 3600 * 10**9))
    assert recover(kernel) == 1
    assert Lifecycle(kernel).show(who).state == "running"


def test_an_id_in_use_is_never_taken(
    exported: tuple[Path, str], kernel: Kernel, tmp_path: Path
) -> None:
    """Not that of an agent, a killed one, or a snapshot; and no file is written over."""
    path, _ = exported
    lives = Lifecycle(kernel)
    kernel.agent_fs(WRITER).snapshot("fixed")
    for name in ("writer", "fixed"):
        with pytest.raises(ArgumentError, match="taken"):
            import_agent(kernel, path, agent=name)
    lives.fork(WRITER, "kid")
    for who in (WRITER, Principal(agent="kid")):
        lives.kill(who)
    kernel.drop_agent(Principal(agent="kid"))
    for name in ("writer", "kid"):
        with pytest.raises(ArgumentError, match="taken"):
            import_agent(kernel, path, agent=name)
    assert kernel.agent_fs(WRITER).read("/a") == b"1" * 5000
    with pytest.raises(ArgumentError, match="replaces nothing"):
        export_agent(kernel, WRITER, path)
    with pytest.raises(NotFoundError):
        export_agent(kernel, Principal(agent="nobody"), tmp_path / "x")
    with pytest.raises(StorageError):
        export_agent(kernel, WRITER, tmp_path / "no" / "such" / "folder")


def test_a_branch_over_a_host_directory_stays(kernel: Kernel, tmp_path: Path) -> None:
    """What is on the host is not the agent's to take along."""
    kernel.agent_fs(WRITER).overlay(tmp_path, "/host")
    with pytest.raises(ArgumentError, match="host directory"):
        export_agent(kernel, WRITER, tmp_path / "w.fmos")
    assert not (tmp_path / "w.fmos").exists()


IMPORT = """
import sys
from fmos.runtime.kernel import Kernel
from fmos.runtime.agent_import import import_agent
with Kernel.open(sys.argv[1]) as kernel:
    print("ready", flush=True)
    import_agent(kernel, sys.argv[2], trust_keys=[sys.argv[3]], carriers=())
"""


def test_a_killed_import_leaves_nothing_half(kernel: Kernel, tmp_path: Path) -> None:
    """Killed at whatever moment, the next look has the whole agent, or nothing and a free id."""
    kernel.contracts.save(CONTRACT)
    fs = kernel.agent_fs(WRITER)
    with fs.transaction():
        for number in range(300):
            fs.write(f"/file{number}", os.urandom(2000))
    whole = tree(fs)
    path = tmp_path / "w.fmos"
    key = export(kernel, path)
    seen: set[str] = set()
    for turn in range(3):
        home = tmp_path / f"home{turn}"
        Kernel.open(home).close()
        command = [sys.executable, "-c", IMPORT, str(home), str(path), key]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            killed_after(home, turn)
            child.send_signal(signal.SIGKILL)
            child.wait(20)
        with Kernel.open(home) as there:
            state = there.agents.descent(WRITER).state
            recover(there)
            assert not [each for each in os.listdir(home / "run") if "import" in each]
            found = there.known_agent_fs(WRITER)
            if found is None:
                nothing_came(there)
                import_agent(there, path, trust_keys=[key])
            assert tree(there.agent_fs(WRITER)) == whole
            assert Lifecycle(there).show(WRITER).state == "running"
            assert there.volume("default").fsck() == []
            seen.add(f"{state} {'there' if found else 'gone'}")
        shutil.rmtree(home)
    assert any(each.startswith(AgentState.IMPORTING) for each in seen), seen


def test_an_import_whose_papers_are_gone_is_finished(
    exported: tuple[Path, str], kernel: Kernel
) -> None:
    """A home from a backup that was made during an import lets the agent go, and only once."""
    path, _ = exported
    done = import_agent(kernel, path, agent="w2", paused=True)
    states, who = AgentStates(kernel.database), Principal(agent="w2")
    row = states.get(who)
    assert row is not None
    owner = {**row.detail, "owner": ["another boot", "x", 1, 1]}
    states.put(replace(row, state=AgentState.IMPORTING, noted=False, detail=owner))
    shutil.rmtree(done.papers)
    assert recover(kernel) == 1
    assert Lifecycle(kernel).show(who).state == "paused"
    assert recover(kernel) == 0


def test_only_an_export_whose_process_is_gone_is_removed(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder says which process that is; where nobody can know, the folder stays for a day."""
    seen: list[str] = []
    gather = agent_export._gathered

    def gathered(kernel: Kernel, who: Principal, fs: AgentFS, folder: Path) -> TransferManifest:
        seen.append(folder.name)
        recover(kernel)
        return gather(kernel, who, fs, folder)

    monkeypatch.setattr(agent_export, "_gathered", gathered)
    kernel.agent_fs(WRITER).write("/a", b"a")
    export(kernel, tmp_path / "w.fmos")
    owner = this_process()
    assert owner is not None
    assert seen[0].startswith(f"export-{owner_text(owner)}-")
    assert not (kernel.home.path / "run" / seen[0]).exists()
    gone = owner._replace(pid=4194304)  # no process has this number
    foreign, unknown = gone._replace(space="another"), "4194304"
    names = [f"export-{each}-x" for each in (owner_text(gone), owner_text(foreign), unknown)]
    names += ["export-1-old"]
    for name in names:
        (kernel.home.path / "run" / name).mkdir()
    os.utime(kernel.home.path / "run" / "export-1-old", (1, 1))
    recover(kernel)
    left = {each for each in os.listdir(kernel.home.path / "run") if each.startswith("export-")}
    assert left == {names[1], names[2]}


def killed_after(home: Path, turn: int) -> None:
    """Wait until an import has come to another point each time: a part of it is on the disk."""
    volume = home / "tenants" / "default.afs-wal"

    def come() -> bool:
        staged = any(each.startswith("import-") for each in os.listdir(home / "run"))
        written = volume.stat().st_size if volume.exists() else 0
        return (staged and written >= 150_000 * turn) or (home / "imported").exists()

    until(come)


def test_a_full_disk_leaves_no_file(kernel: Kernel, tmp_path: Path) -> None:
    """An export that finds no room says so and leaves nothing."""
    kernel.agent_fs(WRITER).write("/big", os.urandom(3_000_000))
    code = (
        "import resource, signal, sys\n"
        "from fmos.runtime.kernel import Kernel\n"
        "from fmos.runtime.agent_export import export_agent\n"
        "from fmos.types import Principal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "with Kernel.open(sys.argv[1]) as kernel:\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))\n"
        "    export_agent(kernel, Principal(agent='writer'), sys.argv[2])\n"
    )
    target = tmp_path / "w.fmos"
    command = [sys.executable, "-c", code, str(kernel.home.path), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "space" in done.stderr.splitlines()[-1]
    assert os.listdir(tmp_path) == ["home"]
    assert os.listdir(kernel.home.path / "run") == []


def test_the_contract_of_a_fork_is_its_parents(
    kernel: Kernel, other: Kernel, tmp_path: Path
) -> None:
    """An inherited contract comes along; what narrowed an own one is named."""
    kernel.contracts.save(CONTRACT)
    kernel.fork_agent(WRITER, "kid")
    out = export_agent(kernel, Principal(agent="kid"), tmp_path / "kid.fmos")
    assert (out.manifest.contract, out.manifest.narrowed_by) == ("writer", ())
    done = import_agent(
        other, tmp_path / "kid.fmos", trust_keys=[out.manifest.public_key], install_contract=True
    )
    assert done.contract_installed
    assert other.contract(Principal(agent="kid")) is not None
    kernel.contracts.save(CONTRACT.replace("writer", "kid"))
    out = export_agent(kernel, Principal(agent="kid"), tmp_path / "kid2.fmos")
    assert (out.manifest.contract, out.manifest.narrowed_by) == ("kid", ("writer",))
    assert isinstance(out.manifest, TransferManifest)
    with pytest.raises(FmosError):
        import_agent(other, tmp_path / "kid2.fmos", trust_keys=[out.manifest.public_key])
