"""A project's documents count only after a person's yes at a terminal, and only ever tighten."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.threats.terminal import alone, at_terminal, fmos

from agentfs import AgentFS
from fmos.contract.layers import Merged, merge
from fmos.contract.model import AgentContract
from fmos.contract.parse import load_text
from fmos.contract.policy import Policy
from fmos.contract.project import ProjectDocuments, ProjectPolicy, documents, tightened, widening
from fmos.contract.projectfolder import ProjectFile, ProjectFolder, read_folder
from fmos.errors import ContractError, FmosError, NotFoundError
from fmos.runtime.kernel import Kernel
from fmos.runtime.trusted import ProjectPolicies
from fmos.types import Principal

HOME_CONTRACT = """\
apiVersion: agentos/v0.2
kind: AgentContract
name: ada
capabilities: ["fs.read", "fs.write", "web.fetch"]
modelPolicy: { allow: ["local/8B", "cloud/70B"], max_context_tokens: 16000 }
security: { consent_for: ["fs.write"] }
budgets: { tokens: 50k, per_day: { tokens: 200k } }
"""
TEAM = """\
apiVersion: agentos/v0.2
kind: Policy
layer: platform
must:
  deny: ["web.fetch"]
  consent_for: ["message.send"]
  budgets: { tokens: 5k }
prefer:
  max_context_tokens: 4000
  budgets: { tool_calls: 20 }
"""
ADA = Principal(agent="ada", session="s1")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project folder with one policy."""
    folder = tmp_path / "project"
    (folder / ".fmos" / "policies").mkdir(parents=True)
    (folder / ".fmos" / "contracts").mkdir()
    (folder / ".fmos" / "policies" / "team.yaml").write_text(TEAM)
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a contract for `ada`."""
    (tmp_path / "home" / "contracts").mkdir(parents=True, mode=0o700)
    (tmp_path / "home" / "contracts" / "ada.yaml").write_text(HOME_CONTRACT)
    return tmp_path / "home"


@pytest.fixture
def projects(home: Path) -> Iterator[ProjectPolicies]:
    """The trusted projects of the home."""
    with Kernel.open(home) as kernel:
        yield ProjectPolicies(kernel.database, kernel.clock)


def effective() -> Merged:
    """What the home gives `ada`."""
    return merge(load_text(HOME_CONTRACT), ())


# -- who may trust ---------------------------------------------------------------------------------


def test_nothing_counts_until_a_person_says_yes(
    home: Path, project: Path, projects: ProjectPolicies
) -> None:
    """An untrusted project changes nothing; after the yes it tightens, and only then."""
    before = effective()
    assert projects.for_directory(project) == ()
    assert projects.tightened(project, before, ADA) is before
    code, said = at_terminal(fmos(home, "trust", str(project)), "y")
    assert code == 0
    assert ".fmos/policies/team.yaml  policy for every agent" in said
    assert "must.budgets.tokens: 5k" in said
    assert [policy.label for policy in projects.for_directory(project)] == ["project (platform)"]
    now = projects.tightened(project, before, ADA).contract
    assert now.budgets.tokens == 5000
    assert now.security.deny == ("web.fetch",)
    assert "web.fetch" not in now.capabilities


def test_a_process_without_a_terminal_cannot_trust(home: Path, project: Path) -> None:
    """Pipes, a session of its own and `yes` on stdin are refused with the sentence that says so."""
    done = alone(fmos(home, "trust", str(project)))
    assert done.returncode == 11
    assert "no terminal here to ask at" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    piped = alone(["sh", "-c", f"yes | {' '.join(fmos(home, 'trust', str(project)))}"])
    assert piped.returncode == 11


def test_what_was_typed_before_the_question_is_no_answer(home: Path, project: Path) -> None:
    """A `y` that waited in the terminal is thrown away, so that nobody agrees unseen."""
    code, _ = at_terminal(fmos(home, "trust", str(project)), "", typed_before="y\ny\n")
    assert code == 11


def test_expect_names_exactly_one_content_of_a_new_project(
    home: Path, project: Path, projects: ProjectPolicies
) -> None:
    """Without a terminal a digest is enough where nothing was trusted, and replaces nothing."""
    digest = read_folder(project).digest
    wrong = alone(fmos(home, "trust", str(project), "--expect", "0" * 64))
    assert wrong.returncode == 11
    assert digest in wrong.stderr
    assert alone(fmos(home, "trust", str(project), "--expect", digest)).returncode == 0
    assert projects.for_directory(project)
    (project / ".fmos" / "policies" / "team.yaml").write_text(TEAM.replace("5k", "50k"))
    looser = read_folder(project).digest
    replaced = alone(fmos(home, "trust", str(project), "--expect", looser))
    assert replaced.returncode == 11
    assert "cannot replace" in replaced.stderr
    with pytest.raises(ContractError):
        projects.for_directory(project)


def test_what_is_trusted_is_what_was_shown(
    home: Path, project: Path, projects: ProjectPolicies
) -> None:
    """A file that changes between the question and the answer is not trusted."""
    policy = project / ".fmos" / "policies" / "team.yaml"
    code, _ = at_terminal(
        fmos(home, "trust", str(project)), "y",
        meanwhile=lambda: policy.write_text(TEAM.replace("5k", "50k")),
    )  # fmt: skip
    assert code == 0
    with pytest.raises(ContractError, match=r"'.fmos/policies/team.yaml' was changed"):
        projects.for_directory(project)


def test_revoking_is_a_persons_act_too(home: Path, project: Path) -> None:
    """What tightens cannot be taken away without a terminal; a person can."""
    with Kernel.open(home) as kernel:
        _trusted(ProjectPolicies(kernel.database, kernel.clock), project)
    listed = json.loads(alone(fmos(home, "trust", "--list", "--json")).stdout)
    assert [each["path"] for each in listed["projects"]] == [str(project)]
    assert listed["projects"][0]["problem"] == ""
    assert alone(fmos(home, "trust", "--revoke", str(project))).returncode == 11
    assert at_terminal(fmos(home, "trust", "--revoke", str(project)), "y")[0] == 0
    assert alone(fmos(home, "trust", "--list")).stdout == "no project is trusted\n"
    with Kernel.open(home) as kernel:
        rows = [row.operation for row in kernel.volume("default").journal()]
    assert rows.count("project.revoke") == 1


def test_a_hostile_document_cannot_write_on_the_terminal(home: Path, project: Path) -> None:
    """What is shown to a person holds no control characters of whoever wrote the documents."""
    text = TEAM.replace("web.fetch", "\\x1b[2Jnothing\\r")
    (project / ".fmos" / "policies" / "team.yaml").write_text(text)
    _, said = at_terminal(fmos(home, "trust", str(project)), "n")
    assert "\x1b" not in said
    assert "\\x1b[2Jnothing\\r" in said


# -- what makes it untrusted again -----------------------------------------------------------------


def _trusted(projects: ProjectPolicies, project: Path) -> None:
    projects.trust(read_folder(project), "user:test")
    assert projects.for_directory(project)


def _change(project: Path) -> None:
    path = project / ".fmos" / "policies" / "team.yaml"
    stamp = path.stat()
    path.write_text(TEAM.replace("5k", "9k"))
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


def _replace(project: Path) -> None:
    shutil.copytree(project, project.with_name("copy"))
    project.rename(project.with_name("old"))
    project.with_name("copy").rename(project)


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "changed, with its old time and size": (_change, "'.fmos/policies/team.yaml' was changed"),
    "added": (
        lambda p: (p / ".fmos/policies/new.yml").write_text(TEAM), "new.yml' was added",
    ),
    "removed": (
        lambda p: (p / ".fmos/policies/team.yaml").unlink(), "team.yaml' was removed",
    ),
    "without the folder": (lambda p: shutil.rmtree(p / ".fmos"), "was removed"),
    "gone": (lambda p: shutil.rmtree(p), "there is no project folder"),
    "a copy in its place": (_replace, "another directory is there"),
    "a link in its place": (
        lambda p: p.rename(p.with_name("old")) and p.symlink_to(_empty(p.with_name("else"))),
        "another directory is there",
    ),
    "moved away in a link": (
        lambda p: (p / ".fmos").rename(p / "x") and (p / ".fmos").symlink_to("x"), "symbolic link",
    ),
    "a link for a file": (
        lambda p: (p / ".fmos/policies/l.yaml").symlink_to("team.yaml"), "symbolic link",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_any_change_makes_a_project_untrusted(
    projects: ProjectPolicies, project: Path, what: str
) -> None:
    """A trusted project that is not as it was refuses, and says what to do."""
    change, reason = CHANGES[what]
    _trusted(projects, project)
    change(project)
    with pytest.raises(ContractError) as caught:
        projects.for_directory(project)
    assert reason in str(caught.value)
    with pytest.raises(ContractError):
        projects.tightened(project, effective(), ADA)


def test_a_change_that_is_taken_back_is_none(projects: ProjectPolicies, project: Path) -> None:
    """The content is pinned, not its time: the same bytes in the same place are trusted."""
    _trusted(projects, project)
    path = project / ".fmos" / "policies" / "team.yaml"
    path.write_text("broken: [")
    with pytest.raises(ContractError):
        projects.for_directory(project)
    path.write_text(TEAM)
    assert projects.for_directory(project)


def test_other_files_do_not_matter(projects: ProjectPolicies, project: Path) -> None:
    """Notes and an editor's hidden files are no documents: they neither count nor disturb."""
    _trusted(projects, project)
    (project / ".fmos" / "policies" / ".team.yaml.swp").write_text("x")
    (project / ".fmos" / "policies" / "README.md").write_text("x")
    (project / "src.py").write_text("x")
    assert projects.for_directory(project)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: (p / ".fmos/policies/f.yaml").symlink_to("/etc/hostname"),
        lambda p: os.mkfifo(p / ".fmos/policies/f.yaml"),
        lambda p: (p / ".fmos/policies/f.yaml").mkdir(),
        lambda p: (p / ".fmos/policies/f.yaml").write_text("#" * ((1 << 20) + 1)),
        lambda p: (
            shutil.rmtree(p / ".fmos/contracts") or (p / ".fmos/contracts").symlink_to("/etc")
        ),
    ],
    ids=["link", "fifo", "folder", "too large", "linked folder"],
)
def test_only_plain_files_are_read(project: Path, make: Callable[[Path], object]) -> None:
    """Links, pipes, folders and large files are refused, and nothing waits for them."""
    make(project)
    with pytest.raises(ContractError):
        read_folder(project)


# -- an agent cannot install its own policy --------------------------------------------------------


def test_an_agents_apply_cannot_change_what_counts(
    projects: ProjectPolicies, project: Path, tmp_path: Path
) -> None:
    """An overlay of the project leaves its documents out; one of a folder above is found out."""
    _trusted(projects, project)
    loose = TEAM.replace("5k", "50M")
    with AgentFS.open(tmp_path / "v.afs", system=True) as volume:
        branch = volume.fork("ada")
        branch.overlay(project, "/project")
        branch.overlay(tmp_path, "/above")
        agent = volume.on("ada", confined=True, principal="default/-/ada/s1")
        agent.mkdir("/project/.fmos/policies", parents=True)
        agent.write("/project/.fmos/policies/team.yaml", loose)
        agent.apply(at="/project")
        assert (project / ".fmos/policies/team.yaml").read_text() == TEAM
        assert projects.for_directory(project)
        agent.write("/above/project/.fmos/policies/team.yaml", loose)
        assert projects.for_directory(project)
        agent.apply(at="/above")
    assert (project / ".fmos/policies/team.yaml").read_text() == loose
    with pytest.raises(ContractError, match="was changed"):
        projects.for_directory(project)


def test_what_an_agent_writes_into_a_new_project_counts_for_nothing(
    projects: ProjectPolicies, tmp_path: Path
) -> None:
    """A project that an agent made up is untrusted, whatever its documents say."""
    (tmp_path / "work").mkdir()
    with AgentFS.open(tmp_path / "v.afs") as agent:
        agent.overlay(tmp_path / "work", "/w")
        agent.mkdir("/w/made-up/.fmos/contracts", parents=True)
        agent.write("/w/made-up/.fmos/contracts/ada.yaml", HOME_CONTRACT.replace("50k", "50M"))
        agent.apply(at="/w")
    assert (tmp_path / "work/made-up/.fmos/contracts/ada.yaml").exists()
    before = effective()
    assert projects.tightened(tmp_path / "work/made-up", before, ADA) is before


# -- only ever tighter -----------------------------------------------------------------------------


def _folder(project: Path, contract: str = "", policy: str = "") -> ProjectFolder:
    shutil.rmtree(project / ".fmos" / "policies")
    for kind, text in (("contracts", contract), ("policies", policy)):
        (project / ".fmos" / kind).mkdir(exist_ok=True)
        if text:
            (project / ".fmos" / kind / "x.yaml").write_text(text)
    return read_folder(project)


WIDER = {
    "capability": (
        HOME_CONTRACT.replace('"fs.read"', '"process.run"'),
        "x.yaml:4:16: 'process.run'",
    ),
    "budget": (HOME_CONTRACT.replace("50k", "60k"), "x.yaml:7:20: budgets.tokens is 60000"),
    "window": (HOME_CONTRACT.replace("200k", "2M"), "budgets.per_day.tokens is 2000000"),
    "model": (HOME_CONTRACT.replace("local/8B", "cloud/700B"), "the model 'cloud/700B'"),
    "prompt": (HOME_CONTRACT.replace("16000", "17000"), "max_context_tokens is 17000"),
}


@pytest.mark.parametrize("what", WIDER)
def test_widening_is_refused_by_name_and_line(project: Path, what: str) -> None:
    """A project's contract that asks for more than the home's is refused with the place."""
    text, reason = WIDER[what]
    folder = _folder(project, contract=text)
    found = widening(folder, lambda name: load_text(HOME_CONTRACT) if name == "ada" else None)
    assert len(found) == 1
    assert reason in found[0]


def test_the_command_refuses_what_would_widen(home: Path, project: Path) -> None:
    """`fmos trust` ends with exit code 4 and one sentence with the file and the line."""
    _folder(project, contract=WIDER["budget"][0])
    done = alone(fmos(home, "trust", str(project)))
    assert done.returncode == 4
    assert ".fmos/contracts/x.yaml:7:20: budgets.tokens is 60000" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (TEAM.replace("platform", "admin"), "x.yaml:3:8: a project cannot speak for the admin"),
        (TEAM.replace("{ tokens: 5k }", "{ tenant: { tokens: 0 } }"), "the account of the tenant"),
        (TEAM.replace("must:", "muss:"), "muss"),
        ("[", "not valid YAML"),
    ],
)
def test_what_a_project_cannot_say(project: Path, text: str, reason: str) -> None:
    """An administrator's layer, limits that others share and broken documents are refused."""
    folder = _folder(project, policy=text)
    with pytest.raises(ContractError, match=reason):
        documents(folder)


def test_a_contract_for_an_unknown_agent_grants_nothing(home: Path, project: Path) -> None:
    """The home decides who may act: a trusted project's contract makes nobody an agent."""
    text = HOME_CONTRACT.replace("name: ada", "name: eve")
    _folder(project, contract=text)
    with Kernel.open(home) as kernel:
        ProjectPolicies(kernel.database, kernel.clock).trust(read_folder(project), "user:test")
        assert kernel.contract(Principal(agent="eve")) is None


def test_suggestions_of_a_project_come_last(project: Path) -> None:
    """`prefer` of a project fills in only what neither the contract nor the home's layers say."""
    said = documents(_folder(project, policy=TEAM))
    home_policy = Policy.model_validate(
        {"apiVersion": "agentos/v0.2", "kind": "Policy", "layer": "platform",
         "prefer": {"budgets": {"tool_calls": 7}}}
    )  # fmt: skip
    own = merge(load_text(HOME_CONTRACT), (home_policy,))
    found = tightened(own, said, ADA)
    assert found.contract.modelPolicy.max_context_tokens == 16000
    assert found.contract.budgets.tool_calls == 7
    assert tightened(effective(), said, ADA).contract.budgets.tool_calls == 20
    deciders = {each.field: each.layers for each in found.why}
    assert deciders["budgets.tool_calls"] == ("platform",)
    assert deciders["budgets.tokens"] == ("project (platform)",)


def test_a_fork_stays_within_its_parents_part_of_a_project(project: Path) -> None:
    """A project's contract of an agent binds the agents forked from it, whatever these declare."""
    said = documents(_folder(project, contract=HOME_CONTRACT.replace("50k", "1k")))
    kid = merge(load_text(HOME_CONTRACT.replace("name: ada", "name: kid")), ())
    assert tightened(kid, said, Principal(agent="kid")).contract.budgets.tokens == 50_000
    bound = tightened(kid, said, Principal(agent="kid"), ["kid", "ada"]).contract
    assert (bound.name, bound.budgets.tokens) == ("kid", 1000)


def test_a_policy_binds_whom_it_names(project: Path) -> None:
    """A project's policy of a role or tenant holds for these alone."""
    for layer, who, others in (
        ("role", Principal(agent="ada", role="ops"), ADA),
        ("tenant", Principal(tenant="ops", agent="ada"), ADA),
    ):
        text = TEAM.replace("platform", f"{layer}\nname: ops")
        said = documents(_folder(project, policy=text))
        assert tightened(effective(), said, who).contract.budgets.tokens == 5000
        assert tightened(effective(), said, others).contract.budgets.tokens == 50_000


_CAPABILITIES = st.lists(st.sampled_from(["fs.read", "fs.write", "web.fetch", "process.run"]))
_AMOUNT = st.one_of(st.none(), st.integers(0, 10**6))


@st.composite
def _contracts(draw: st.DrawFn) -> AgentContract:
    return AgentContract.model_validate({
        "apiVersion": "agentos/v0.2", "kind": "AgentContract", "name": "ada",
        "capabilities": draw(_CAPABILITIES),
        "modelPolicy": {"allow": draw(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1))},
        "security": {"consent_for": draw(_CAPABILITIES), "deny": draw(_CAPABILITIES),
                     "paths": {"write": draw(st.lists(st.sampled_from(["/a/**", "/b", "/**"])))}},
        "budgets": {"tokens": draw(_AMOUNT), "agent": {"tool_calls": draw(_AMOUNT)},
                    "per_day": {"tokens": draw(_AMOUNT)}},
    })  # fmt: skip


@st.composite
def _policies(draw: st.DrawFn) -> ProjectPolicy:
    said = draw(_contracts())
    budgets = said.budgets.model_dump(exclude_none=True)
    return ProjectPolicy.model_validate({
        "apiVersion": "agentos/v0.2", "kind": "Policy",
        "layer": draw(st.sampled_from(["platform", "role"])), "name": "",
        "must": {"capabilities": draw(st.one_of(st.none(), _CAPABILITIES)),
                 "deny": said.security.deny, "budgets": budgets},
        "prefer": {"models": said.modelPolicy.allow, "budgets": budgets},
    } | {"layer": "platform"})  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(home=_contracts(), own=st.one_of(st.none(), _contracts()), policies=st.lists(_policies()))
def test_no_project_gives_more_than_the_home(
    home: AgentContract, own: AgentContract | None, policies: list[ProjectPolicy]
) -> None:
    """Whatever a project says, every field is at least as tight as without it."""
    merged = merge(home, ())
    said = ProjectDocuments(tuple(policies), {} if own is None else {"ada": own})
    before, after = merged.contract, tightened(merged, said, ADA).contract
    assert set(after.capabilities) <= set(before.capabilities)
    assert set(after.security.consent_for) >= set(before.security.consent_for)
    assert set(after.security.deny) >= set(before.security.deny)
    assert not [each for each in "abc" if after.modelPolicy.allows(each)
                and not before.modelPolicy.allows(each)]  # fmt: skip
    for path in ("/a/x", "/b", "/c"):
        assert before.security.may_write(path) or not after.security.may_write(path)
    for scope in ("", "agent", "per_day"):
        ours, theirs = (getattr(e.budgets, scope) if scope else e.budgets for e in (after, before))
        for resource, limit in theirs.limits().items():
            assert ours.limits()[resource] <= limit


def test_the_digest_is_of_names_and_contents() -> None:
    """Bytes that move from one document to another, or to another name, give another digest."""

    def digest(*files: tuple[str, bytes]) -> str:
        return ProjectFolder("/p", "1:1", tuple(ProjectFile(*each) for each in files), {}).digest

    assert len({digest(("a", b"x"), ("b", b"y")), digest(("a", b"y"), ("b", b"x")),
                digest(("a", b"xy")), digest(("ab", b"x")), digest()}) == 5  # fmt: skip


def test_the_home_is_no_project(home: Path) -> None:
    """The folder whose `.fmos` is the home itself cannot be trusted as a project."""
    own = home.parent / "user" / ".fmos"
    own.parent.mkdir()
    home.rename(own)
    done = alone(fmos(own, "trust", str(own.parent)))
    assert done.returncode == 8
    assert "is the FMOS home itself" in done.stderr


def test_errors_name_the_thing(projects: ProjectPolicies, tmp_path: Path) -> None:
    """What is not there or not trusted is one sentence each."""
    with pytest.raises(ContractError, match="there is no project folder"):
        read_folder(tmp_path / "nowhere")
    for unusable in ("/a\0b", "/\udcff"):
        with pytest.raises(ContractError, match="is not text"):
            read_folder(unusable)
    for missing in (tmp_path / "nowhere", "project", tmp_path / "home" / "contracts" / "ada.yaml"):
        with pytest.raises(ContractError, match="FMOS_PROJECT"):
            projects.for_directory(missing)
    with pytest.raises(NotFoundError, match="is not trusted"):
        projects.revoke(tmp_path)
    assert issubclass(ContractError, FmosError)
