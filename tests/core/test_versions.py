"""Versions: proposed, accepted by somebody else, taken back byte for byte, frozen; nothing lost."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmos.contract.shares import in_share
from fmos.errors import ArgumentError, ContractError, DeniedError, FormatError, NotFoundError
from fmos.runtime.kernel import Kernel
from fmos.types import Principal
from fmos.versions.model import Candidate, Status, artefact_path
from fmos.versions.versions import Versions

ADA, BOB, LEARNER = "user:ada", "user:bob", "agent:learner"
SOMEBODY = Principal(agent="helper", session="s1")


def proposed(versions: Versions, content: bytes, author: str = ADA) -> Candidate:
    """Return a candidate for the prompt `system`."""
    return versions.propose("default", "prompt", "system", content, author=author, why="try it")


def accepted(versions: Versions, content: bytes) -> Candidate:
    """Return a version of the prompt `system` that every session gets."""
    return versions.accept(proposed(versions, content), by=BOB, override="no metric for prompts")


def served(versions: Versions, who: Principal = SOMEBODY) -> bytes | None:
    """Return what a session gets of the prompt `system`."""
    found = versions.current(who, "prompt", "system")
    return found.content if found else None


def rows(versions: Versions, event: str) -> list[dict[str, object]]:
    """Return the details of one kind of decision."""
    found = versions.log("default")
    return [row.detail for row in found if row.operation == f"version.{event}"]


def test_nobody_gets_a_candidate_before_it_is_accepted(kernel: Kernel) -> None:
    """A candidate is a fork of the template branch; acceptance merges it."""
    versions = Versions(kernel)
    candidate = proposed(versions, b"be kind")
    assert candidate.id == hashlib.sha256(b"be kind").hexdigest()
    assert candidate.branch in [branch.name for branch in kernel.volume("default").branches()]
    assert served(versions) is None
    versions.accept(candidate, by=BOB, override="the first one")
    assert served(versions) == b"be kind"
    assert kernel.volume("default").read(artefact_path("prompt", "system")) == b"be kind"
    assert rows(versions, "accept")[0]["override"] == "the first one"


def test_an_author_cannot_accept(kernel: Kernel) -> None:
    """Who proposed a version does not decide on it, nor who proposed the same content later."""
    versions = Versions(kernel)
    candidate = proposed(versions, b"be kind")
    proposed(versions, b"be kind", author="user:eve")
    for author in (ADA, "user:eve"):
        with pytest.raises(DeniedError, match="self_accept"):
            versions.accept(candidate, by=author, override="I am sure")
    assert served(versions) is None
    assert versions.accept(candidate, by=BOB, override="seen").authors == (ADA, "user:eve")


def test_a_home_of_one_person_may_allow_it(tmp_path: Path) -> None:
    """With `self_accept` an author accepts, and the log says who it was."""
    (tmp_path / "fmos.toml").write_text("[versions]\nself_accept = true\n", encoding="utf-8")
    with Kernel.open(tmp_path) as kernel:
        versions = Versions(kernel)
        versions.accept(proposed(versions, b"be kind"), by=ADA, override="alone here")
        assert rows(versions, "accept")[0]["by"] == ADA


def test_programs_propose_and_never_decide(kernel: Kernel) -> None:
    """Whatever a program may call, deciding is for people."""
    versions = Versions(kernel)
    candidate = proposed(versions, b"be kind", author=LEARNER)
    other = "agent:friend"
    with pytest.raises(DeniedError, match="people decide"):
        versions.accept(candidate, by=other, override="trust me")
    with pytest.raises(DeniedError, match="people decide"):
        versions.canary(candidate, 0.5, by=other)
    with pytest.raises(DeniedError, match="people decide"):
        versions.reject(candidate, by=other, why="mine is better")
    with pytest.raises(DeniedError, match="people decide"):
        versions.freeze("default", by=other, why="mine is better")
    with pytest.raises(DeniedError, match="people decide"):
        versions.rollback("default", "prompt", "system", by=other, why="mine is better")
    with pytest.raises(ArgumentError, match="does not say who acts"):
        versions.accept(candidate, by="bob", override="x")


def test_without_a_passed_evaluation_a_reason_is_needed(kernel: Kernel) -> None:
    """The gate stays shut for what nobody evaluated, unless a person says why."""
    versions = Versions(kernel)
    with pytest.raises(DeniedError, match="not evaluated on held-out traces"):
        versions.accept(proposed(versions, b"be kind"), by=BOB)


def test_a_second_candidate_of_the_same_state_is_refused(kernel: Kernel) -> None:
    """What was made from another version than the accepted one is no longer what was judged."""
    versions = Versions(kernel)
    accepted(versions, b"one")
    left, right = proposed(versions, b"two"), proposed(versions, b"three")
    versions.accept(left, by=BOB, override="x")
    with pytest.raises(ArgumentError, match="made from another version"):
        versions.accept(right, by=BOB, override="x")
    assert served(versions) == b"two"
    assert versions.candidate("default", "prompt", "system", right.id).status is Status.CANDIDATE


def test_rejected_content_may_come_again_and_accepted_may_not(kernel: Kernel) -> None:
    """A reason is kept with each no; what is served already needs no candidate."""
    versions = Versions(kernel)
    candidate = proposed(versions, b"one")
    versions.reject(candidate, by=BOB, why="too short")
    with pytest.raises(ArgumentError, match="is rejected"):
        versions.accept(candidate, by=BOB, override="x")
    versions.accept(proposed(versions, b"one"), by=BOB, override="x")
    with pytest.raises(ArgumentError, match="is what is accepted already"):
        proposed(versions, b"one")
    accepted(versions, b"two")
    with pytest.raises(ArgumentError, match="rollback prompt system --to"):
        proposed(versions, b"one")


@settings(max_examples=12, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=400), min_size=2, max_size=5, unique=True))
def test_rollback_gives_the_earlier_bytes(contents: list[bytes]) -> None:
    """Whatever was accepted after it, a version comes back byte for byte, and forward again."""
    with tempfile.TemporaryDirectory() as home, Kernel.open(home) as kernel:
        versions = Versions(kernel)
        ids = [accepted(versions, content).id for content in contents]
        for content in reversed(contents[:-1]):
            versions.rollback("default", "prompt", "system", by=ADA, why="worse")
            assert served(versions) == content
        assert versions.rollback("default", "prompt", "system", by=ADA, why="none") == ""
        assert served(versions) is None
        versions.accept(proposed(versions, contents[-1]), by=BOB, override="again")
        assert versions.current(SOMEBODY, "prompt", "system").version == ids[-1]  # type: ignore[union-attr]


def test_rollback_goes_to_any_accepted_version_and_to_no_other(kernel: Kernel) -> None:
    """`to` names a version that was accepted; one that was taken back must be proposed again."""
    versions = Versions(kernel)
    first, second, third = (accepted(versions, each) for each in (b"one", b"two", b"three"))
    versions.rollback("default", "prompt", "system", by=ADA, why="bad", to=first.id[:10])
    assert served(versions) == b"one"
    with pytest.raises(ArgumentError, match="propose it again"):
        versions.rollback("default", "prompt", "system", by=ADA, why="x", to=third.id)
    versions.rollback("default", "prompt", "system", by=ADA, why="x", to=second.id)
    assert served(versions) == b"two"
    with pytest.raises(NotFoundError, match="no version"):
        versions.rollback("default", "prompt", "system", by=ADA, why="x", to="ffff")
    assert [row["to"] for row in rows(versions, "rollback")] == [first.id, second.id]


def test_a_frozen_artefact_is_the_same_bytes_for_every_run(kernel: Kernel) -> None:
    """Frozen: the canary ends, and nothing is accepted, tried or taken back until it is thawed."""
    versions = Versions(kernel)
    accepted(versions, b"one")
    candidate = proposed(versions, b"two")
    versions.canary(candidate, 0.999, by=BOB)
    assert served(versions) == b"two"
    pinned = versions.freeze("default", by=BOB, why="the paper's figures")
    sessions = [Principal(agent="helper", session=f"run{number}") for number in range(30)]
    assert {served(versions, each) for each in sessions} == {b"one"}
    assert list(pinned) == ["prompt/system"]
    for change in (
        lambda: versions.accept(candidate, by=BOB, override="x"),
        lambda: versions.canary(candidate, 0.999, by=BOB),
        lambda: versions.rollback("default", "prompt", "system", by=BOB, why="x"),
    ):
        with pytest.raises(DeniedError, match="frozen by user:bob"):
            change()
    with pytest.raises(NotFoundError, match="is not frozen"):
        versions.unfreeze("default", "prompt", by=BOB, why="x")
    versions.unfreeze("default", by=BOB, why="done")
    versions.accept(candidate, by=BOB, override="x")
    assert served(versions) == b"two"


def test_settings_freeze_a_home(tmp_path: Path) -> None:
    """`frozen = true` in the home's settings holds every tenant, whatever the register says."""
    with Kernel.open(tmp_path) as kernel:
        versions = Versions(kernel)
        accepted(versions, b"one")
        versions.canary(proposed(versions, b"two"), 0.999, by=BOB)
    (tmp_path / "fmos.toml").write_text("[versions]\nfrozen = true\n", encoding="utf-8")
    with Kernel.open(tmp_path) as kernel:
        versions = Versions(kernel)
        assert served(versions) == b"one"
        with pytest.raises(DeniedError, match=r"fmos\.toml"):
            versions.rollback("default", "prompt", "system", by=BOB, why="x")


def test_what_was_changed_by_other_means_is_not_served(kernel: Kernel) -> None:
    """Other bytes than the accepted ones are an error for every consumer, and can be put back."""
    versions = Versions(kernel)
    version = accepted(versions, b"one")
    kernel.volume("default").write(artefact_path("prompt", "system"), b"evil")
    with pytest.raises(FormatError, match="is not the accepted version"):
        served(versions)
    with pytest.raises(FormatError, match="is not the accepted version"):
        versions.freeze("default", by=BOB, why="x")
    assert "is not the accepted version" in versions.problems("default")[0]
    versions.rollback("default", "prompt", "system", by=BOB, why="tampered", to=version.id)
    assert served(versions) == b"one"
    assert versions.problems("default") == []


@pytest.mark.parametrize("path", [artefact_path("prompt", "system"), "/elsewhere"])
def test_a_branch_that_somebody_changed_is_not_merged(kernel: Kernel, path: str) -> None:
    """Accepting brings in the bytes that were proposed and nothing beside them."""
    versions = Versions(kernel)
    candidate = proposed(versions, b"be kind")
    kernel.volume("default").on(candidate.branch).write(path, b"evil")
    with pytest.raises(ArgumentError, match="holds other content than was proposed"):
        versions.accept(candidate, by=BOB, override="x")
    assert served(versions) is None
    assert not kernel.volume("default").exists(path)


def test_a_canary_ends_with_what_it_was_compared_with(kernel: Kernel) -> None:
    """When another version is accepted or put back, a canary has no control any more and ends."""
    versions = Versions(kernel)
    first = accepted(versions, b"one")
    tried, other = proposed(versions, b"two"), proposed(versions, b"three")

    def status() -> Status:
        return versions.candidate("default", "prompt", "system", tried.id).status

    versions.canary(tried, 0.999, by=BOB)
    versions.accept(other, by=BOB, override="x")
    assert (status(), served(versions)) == (Status.CANDIDATE, b"three")
    versions.canary(tried, 0.999, by=BOB)
    versions.rollback("default", "prompt", "system", by=BOB, why="x", to=first.id)
    assert (status(), served(versions)) == (Status.CANDIDATE, b"one")


def test_canaries_use_the_catalogue_s_routing(kernel: Kernel) -> None:
    """A share of the sessions, the same ones in every process, and none without a name."""
    versions = Versions(kernel)
    accepted(versions, b"one")
    candidate = versions.canary(proposed(versions, b"two"), 0.3, by=BOB)
    sessions = [Principal(agent="helper", session=f"s{number}") for number in range(200)]
    got = [served(versions, each) for each in sessions]
    label = f"prompt/system@{candidate.id}"
    expected = [in_share(label, 0.3, agent="helper", session=f"s{n}") for n in range(200)]
    assert [each == b"two" for each in got] == expected
    assert 0.2 < sum(expected) / 200 < 0.4
    assert served(versions, Principal(agent="helper")) == b"one"


def test_what_a_session_got_is_in_the_journal_once(kernel: Kernel) -> None:
    """Two processes' answers to one session are one row, on the session's own line of history."""
    versions = Versions(kernel)
    version = accepted(versions, b"one")
    with Kernel.open(kernel.home.path) as other:
        for each in (versions, Versions(other), Versions(other)):
            assert served(each) == b"one"
    log = versions.log("default", sessions=True)
    found = [row for row in log if row.operation == "version.serve"]
    assert [(row.principal, row.detail["version"]) for row in found] == [
        (str(SOMEBODY), version.id)
    ]


@pytest.mark.parametrize(
    ("kind", "content", "error", "said"),
    [
        ("policy", b"kind: Policy", ContractError, "apiVersion"),
        ("policy", b"apiVersion: agentos/v0.2\nkind: Policy\nlayer: admin", ContractError, "layer"),
        (
            "policy",
            b"apiVersion: agentos/v0.2\nkind: Policy\nlayer: tenant\nname: acme",
            ContractError,
            "cannot bind the tenant",
        ),
        (
            "policy",
            b"apiVersion: agentos/v0.2\nkind: Policy\nlayer: role\nname: writer\n"
            b"prefer: { models: [big] }",
            ContractError,
            "may only demand",
        ),
        ("trap_model", b"{}", FormatError, "no usable file of learned traps"),
        ("trap_model", b"\xff", FormatError, "not JSON"),
        ("prompt", b"", ArgumentError, "empty"),
        ("prompt", b"x" * 4_000_001, ArgumentError, "4,000,001 bytes"),
        ("Prompt", b"x", ArgumentError, "cannot be a kind"),
    ],
)
def test_content_that_its_consumer_could_not_use_is_refused(
    kernel: Kernel, kind: str, content: bytes, error: type[Exception], said: str
) -> None:
    """A candidate is what its kind needs, and of a policy only demands; nothing is kept else."""
    versions = Versions(kernel)
    with pytest.raises(error, match=said):
        versions.propose("default", kind, "x", content, author=ADA, why="try it")
    assert versions.artefacts("default") == []


CONTRACT = """
apiVersion: agentos/v0.2
kind: AgentContract
name: helper
capabilities: [fs.read, fs.write, email.send]
"""
POLICY = b"""
apiVersion: agentos/v0.2
kind: Policy
layer: tenant
name: default
must: { deny: [email.send] }
"""


def test_an_accepted_policy_narrows_what_agents_may_do(kernel: Kernel) -> None:
    """It binds from its acceptance to its rollback, as a canary for its sessions only."""
    kernel.home.contracts.mkdir(exist_ok=True)
    (kernel.home.contracts / "helper.yaml").write_text(CONTRACT, encoding="utf-8")
    versions = Versions(kernel)
    sessions = [Principal(agent="helper", session=f"s{number}") for number in range(60)]

    def allowed() -> list[bool]:
        found = [kernel.contract(each) for each in sessions]
        return [contract is not None and contract.grants("email.send") for contract in found]

    kernel.home.policies.mkdir(exist_ok=True)
    (kernel.home.policies / "platform.yaml").write_text(
        "apiVersion: agentos/v0.2\nkind: Policy\nlayer: platform\nmust: { deny: [fs.write] }\n"
    )
    assert all(allowed())
    candidate = versions.propose("default", "policy", "careful", POLICY, author=LEARNER, why="mail")
    assert all(allowed())
    versions.canary(candidate, 0.4, by=BOB)
    assert 0 < sum(allowed()) < 60
    versions.accept(candidate, by=BOB, override="x")
    assert not any(allowed())
    found = kernel.contract(SOMEBODY)
    assert found is not None
    assert set(found.security.deny) == {"fs.write", "email.send"}
    versions.rollback("default", "policy", "careful", by=BOB, why="too careful")
    assert all(allowed())


_DECIDE = """
import sys
from fmos.runtime.kernel import Kernel
from fmos.versions.versions import Versions
with Kernel.open(sys.argv[1]) as kernel:
    versions = Versions(kernel)
    number = 0
    while True:
        content = f"{sys.argv[2]} {number}".encode()
        made = versions.propose(
            "default", "prompt", "system", content, author="user:ada", why="try it"
        )
        versions.accept(made, by="user:bob", override="x")
        print(number, flush=True)
        number += 1
"""


def _consistent(kernel: Kernel) -> int:
    """Check that files, register and journal tell of the same decisions; return their number."""
    versions = Versions(kernel)
    register = versions.register("default").of("prompt/system")
    order = [row["version"] for row in rows(versions, "accept")]
    assert order == [*register.history, *([register.accepted] if register.accepted else [])]
    if register.accepted:
        content = served(versions)
        assert content is not None
        assert hashlib.sha256(content).hexdigest() == register.accepted
    known = versions.candidates("default", "prompt", "system")
    assert {each.id for each in known} == {row["version"] for row in rows(versions, "propose")}
    assert sum(each.status is Status.ACCEPTED for each in known) == bool(register.accepted)
    branches = {branch.name for branch in kernel.volume("default").branches()}
    assert {each.branch for each in known} == {
        name for name in branches if name.startswith("versions/")
    }
    assert kernel.volume("default").verify_journal().ok
    return len(order)


def test_a_killed_process_leaves_a_decision_whole_or_not_at_all(tmp_path: Path) -> None:
    """A kill -9 at any moment: files, register and journal agree, and the next one goes on."""
    home = tmp_path / "home"
    seen = 0
    for attempt in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", _DECIDE, str(home), f"attempt {attempt}"],
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            for _ in range(1 + 2 * attempt):
                assert process.stdout.readline()
            os.kill(process.pid, signal.SIGKILL)
        with Kernel.open(home) as kernel:
            count = _consistent(kernel)
            assert count >= seen + 1 + 2 * attempt
            seen = count


_ACCEPT = """
import sys
from fmos.errors import ArgumentError
from fmos.runtime.kernel import Kernel
from fmos.versions.versions import Versions
with Kernel.open(sys.argv[1]) as kernel:
    versions = Versions(kernel)
    candidate = versions.candidate("default", "prompt", "system", sys.argv[2])
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        versions.accept(candidate, by="user:bob", override="x")
        print("accepted")
    except ArgumentError as error:
        print("refused", error)
"""


@pytest.mark.parametrize("same", [True, False])
def test_of_two_that_accept_at_once_one_wins(tmp_path: Path, same: bool) -> None:
    """Two processes accept at one moment, the same candidate or two: one is told that it lost."""
    home = tmp_path / "home"
    with Kernel.open(home) as kernel:
        versions = Versions(kernel)
        accepted(versions, b"zero")
        ids = [proposed(versions, each).id for each in (b"one", b"one" if same else b"two")]
    both = [
        subprocess.Popen(
            [sys.executable, "-c", _ACCEPT, str(home), identifier],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for identifier in ids
    ]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = sorted(process.communicate(timeout=30)[0].split()[0] for process in both)
    assert answers == ["accepted", "refused"]
    with Kernel.open(home) as kernel:
        assert _consistent(kernel) == 2
