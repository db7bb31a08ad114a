"""Agent Contracts: documents that must load, and what is said about those that do not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fmos.contract.globs import covers, normalise
from fmos.contract.library import ContractLibrary
from fmos.contract.model import Latency
from fmos.contract.parse import load_file, load_text
from fmos.errors import ContractError

# The shape of DESIGN.md section 8, comment included.
PRINTED = """\
apiVersion: agentos/v0.2
kind: AgentContract
name: release-notes-writer
class: { latency: SRT, slo: { onset_ms: 300, turn_ms: 1200, jitter_p95_pct: 20 } }     # HRT: { deadline_ms: 10, jitter_ms: 5 }; DT: no slo needed
capabilities: [ "web.fetch", "fs.read", "summarize" ]                                  # the allow-list of tools
compute: { cpu: "1", mem: "2GiB" }
modelPolicy: { allow: ["local/8B", "cloud/70B"], max_context_tokens: 16000 }
memory: { namespace: "releases", retention_days: 30,
  rag: { top_k: 8, require_grounding: true } }
security: { consent_for: ["fs.write", "email.send"] }
observability: { tracing: "opentelemetry", log_fields: ["prompt", "sources"] }
"""  # noqa: E501 - verbatim

SHORT = "apiVersion: agentos/v0.2\nkind: AgentContract\nname: a\n"


def test_the_printed_contract_loads_unchanged() -> None:
    """Every field of the printed document has the value that the document gives it."""
    contract = load_text(PRINTED)
    assert contract.name == "release-notes-writer"
    assert contract.class_.latency is Latency.SRT
    assert (contract.class_.slo.onset_ms, contract.class_.slo.jitter_p95_pct) == (300, 20)
    assert contract.capabilities == ("web.fetch", "fs.read", "summarize")
    assert (contract.compute.cpu, contract.compute.mem) == ("1", "2GiB")
    assert contract.modelPolicy.allow == ("local/8B", "cloud/70B")
    assert contract.modelPolicy.max_context_tokens == 16000
    assert (contract.memory.namespace, contract.memory.retention_days) == ("releases", 30)
    assert (contract.memory.rag.top_k, contract.memory.rag.require_grounding) == (8, True)
    assert contract.needs_consent("email.send")
    assert not contract.needs_consent("fs.read")
    assert contract.observability.log_fields == ("prompt", "sources")


def test_an_indented_document_loads() -> None:
    """The document as it stands in DESIGN.md, four spaces in, is the same contract."""
    indented = "".join(f"    {line}\n" for line in PRINTED.splitlines())
    assert load_text(indented).digest == load_text(PRINTED).digest


@pytest.mark.parametrize(
    "line",
    [
        "class: { latency: HRT, slo: { deadline_ms: 10, jitter_ms: 5 } }",
        "class: { latency: HRT, deadline_ms: 10, jitter_ms: 5 }",
        "class: { latency_class: HRT, slo: { deadline_ms: 10, jitter_ms: 5 } }  # comment",
        "class:\n  latency: HRT\n  slo:\n    deadline_ms: 10\n    jitter_ms: 5",
    ],
)
def test_hard_real_time_is_written_in_several_ways(line: str) -> None:
    """Both spellings of the latency class, with objectives inside or beside `slo`, are one."""
    class_ = load_text(SHORT + line).class_
    assert class_.latency is Latency.HRT
    assert (class_.slo.deadline_ms, class_.slo.jitter_ms) == (10, 5)


@pytest.mark.parametrize("line", ["latency_class: DT", "class: DT", "class: { latency: DT }", ""])
def test_delay_tolerant_needs_no_objectives(line: str) -> None:
    """A contract without objectives, or without a class, is delay-tolerant."""
    assert load_text(SHORT + line).class_.latency is Latency.DT


@pytest.mark.parametrize(
    ("written", "amount"),
    [("50k", 50_000), ("50K", 50_000), ("1.5M", 1_500_000), ("2G", 2 * 10**9), ("7", 7)],
)
def test_amounts_may_have_a_unit(written: str, amount: int) -> None:
    """`50k` is fifty thousand, in budgets and in the model policy."""
    text = f"{SHORT}budgets: {{ tokens: {written}, tool_calls: 100 }}\n"
    contract = load_text(text + f"modelPolicy: {{ max_context_tokens: {written} }}")
    assert contract.budgets.limits() == {"tokens": amount, "tool_calls": 100}
    assert contract.modelPolicy.max_context_tokens == amount


def test_scope_is_open_when_absent_and_closed_when_empty() -> None:
    """Without `security.paths` everything but the system area is in scope; `[]` is nothing."""
    open_ = load_text(SHORT).security
    assert open_.may_write("/anywhere")
    assert not open_.may_read("/.fmos/memory/x")
    assert open_.may_send_to("anyone")
    closed = load_text(
        SHORT + "security: { paths: { read: ['/src/**'], write: [] }, recipients: ['*@a.org'] }"
    ).security
    assert closed.may_read("/src/a/b.py")
    assert not closed.may_read("/etc/passwd")
    assert not closed.may_write("/src/a")
    assert closed.may_send_to("Me@A.org")
    assert not closed.may_send_to("me@a.org.evil.net")


@pytest.mark.parametrize(
    ("pattern", "path", "covered"),
    [
        ("/src/**", "/src", True),
        ("/src/**", "/srcs/a", False),
        ("/src/*", "/src/a/b", False),
        ("/**/*.py", "/a/b/c.py", True),
        ("/**/*.py", "/c.py", True),
        ("docs/?.md", "/docs/a.md", True),
        ("/a[1]", "/a1", False),
        ("/src/**", normalise("/src/../etc/passwd"), False),
        ("/src/**", normalise("//src/./x"), True),
    ],
)
def test_path_globs(pattern: str, path: str, covered: bool) -> None:
    """`*` stays inside a name, `**` crosses folders, and brackets mean themselves."""
    assert covers([pattern], path) is covered


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            SHORT + "capabilties: []",
            "c.yaml:4:1: there is no field 'capabilties'; did you mean 'cap",
        ),
        (
            SHORT + "security:\n  consent_for: []\n  recipient: [x]\nzzz: 1",
            "c.yaml:6:3: there is no field 'recipient' in 'security'; did you mean 'recipients'",
        ),
        (
            SHORT + "security: { paths: { writes: [] } }",
            "c.yaml:4:22: there is no field 'writes' in 'security.paths'; did you mean 'write'",
        ),
        (
            SHORT + "budgets: { tokens: lots }",
            "c.yaml:4:20: the field 'budgets.tokens' is wrong: expected a whole .*'lots'",
        ),
        (SHORT + "budgets: { tokens: 1.0005k }", "c.yaml:4:20: .* found '1.0005k'"),
        (
            SHORT + "class: { latency: SRTT }",
            "4:19: .*expected 'HRT', 'SRT' or .*found 'SRTT'; did you mean 'SRT'",
        ),
        (
            SHORT + "class: { latency: HRT }",
            "c.yaml:4:8: the field 'class' is wrong: .*deadline_ms",
        ),
        (SHORT + "class: { latency: HRT, slo: 3, deadline_ms: 1 }", "c.yaml:4:29: .*'class.slo'"),
        (SHORT + "name: b", "c.yaml:4:1: the field 'name' is given twice"),
        ("kind: AgentContract\nname: a", "c.yaml:1:1: the field 'apiVersion' is missing"),
        (
            SHORT.replace("v0.2", "v9"),
            "c.yaml:1:13: the field 'apiVersion' is wrong: expected agentos/v0.2 or .*'agentos/v9",
        ),
        (SHORT.replace("name: a", "name: ../a"), "c.yaml:3:7: the field 'name' is wrong"),
        ("a: [1\nb: 2", "c.yaml is not valid YAML at line 2, column 2"),
        ("a: 'x", "c.yaml is not valid YAML at line 1"),
        ("a: !!python/object:os.system x", "c.yaml is not valid YAML at line 1, column 4"),
        ("a: 2026-13-45", "c.yaml is not valid YAML: month must be"),
        ("a: \0", "c.yaml is not valid YAML"),
        ("[" * 5000, "c.yaml is not valid YAML"),
        ("", "c.yaml is not a contract"),
        ("- a", "c.yaml is not a contract"),
    ],
)
def test_a_wrong_document_gets_one_sentence(text: str, message: str) -> None:
    """The complaint names the source, line and column, the field and what was meant."""
    with pytest.raises(ContractError, match=message) as caught:
        load_text(text, "c.yaml")
    assert "\n" not in str(caught.value)


def test_the_first_of_several_mistakes_is_named() -> None:
    """The complaint is about the place that comes first in the document."""
    text = SHORT.replace("name: a", "nam: a") + "budgets: { tokens: x }\nmemmory: {}"
    with pytest.raises(
        ContractError,
        match=r"c.yaml:3:1: there is no field 'nam'; did you mean 'name'\? \(and 3 more; run",
    ):
        load_text(text, "c.yaml")


def test_every_mistake_is_listed() -> None:
    """The error carries all complaints, in the order of the document, each with its place."""
    text = SHORT.replace("name: a", "nam: a") + "budgets: { tokens: x }\nmemmory: {}\nkind: b"
    with pytest.raises(ContractError) as caught:
        load_text(text, "c.yaml")
    found = [(each.line, each.column, each.field, each.found) for each in caught.value.complaints]
    assert found == [
        (2, 7, "kind", "'b'"),
        (3, 1, "nam", "nam"),
        (4, 20, "budgets.tokens", "'x'"),
        (5, 1, "memmory", "memmory"),
        (6, 1, "kind", "kind"),
        (1, 1, "name", ""),
    ]
    assert caught.value.complaints[2].expected == "a whole number, such as 50000 or 50k"


def test_a_value_in_a_block_is_placed_where_its_key_is() -> None:
    """A block mapping is placed at its key, a value of one line at itself, a list's item too."""
    text = SHORT + "class:\n  latency: HRT\ncapabilities:\n  - ok\n  - ''\nlatency: 3"
    with pytest.raises(ContractError) as caught:
        load_text(text)
    places = [(each.line, each.column, each.field) for each in caught.value.complaints]
    assert places == [(4, 1, "class"), (8, 5, "capabilities.1"), (9, 1, "latency")]


def test_a_document_that_refers_to_itself_is_refused_at_once() -> None:
    """Aliases that would unfold to 10^9 texts, or for ever, are shown shortened."""
    bomb = "".join(
        f"a{n}: &a{n} [{', '.join(['x' if n == 0 else f'*a{n - 1}'] * 10)}]\n" for n in range(9)
    )
    with pytest.raises(ContractError, match="there is no field 'a0'"):
        load_text(SHORT + bomb)
    with pytest.raises(ContractError, match="the field 'memory' is wrong"):
        load_text(SHORT + "memory: &m [*m]")


def test_an_older_version_is_read_as_the_current_one() -> None:
    """`agentos/v0.1` has the same fields, so its contract is the same."""
    assert load_text(SHORT.replace("v0.2", "v0.1")).digest == load_text(SHORT).digest


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    """A missing file and one that is not text are named with their path."""
    with pytest.raises(ContractError, match=r"cannot read the contract .*no.yaml.*No such file"):
        load_file(tmp_path / "no.yaml")
    (tmp_path / "b.yaml").write_bytes(b"name: \xff")
    with pytest.raises(ContractError, match=r"b.yaml' is not UTF-8 text"):
        load_file(tmp_path / "b.yaml")


def test_equal_contracts_have_equal_digests() -> None:
    """Order and comments do not change the digest, content does."""
    reordered = "name: a\nkind: AgentContract # x\napiVersion: agentos/v0.2\nlatency_class: DT\n"
    assert load_text(SHORT).digest == load_text(reordered).digest
    assert load_text(SHORT).digest != load_text(SHORT + "capabilities: [x]").digest


def test_the_library_finds_by_file_name_and_by_declared_name(tmp_path: Path) -> None:
    """A contract is found in `<name>.yaml`, and in any file that declares the name."""
    library = ContractLibrary(tmp_path)
    library.save(PRINTED)
    (tmp_path / "other.yml").write_text(SHORT, encoding="utf-8")
    assert (tmp_path / "release-notes-writer.yaml").read_text(encoding="utf-8") == PRINTED
    found = library.get("release-notes-writer")
    assert found is not None
    assert library.get("release-notes-writer") is found
    assert library.get("a") is not None
    assert library.get("nobody") is None
    assert library.get("../a") is None
    assert library.get("a\n") is None


def test_the_library_sees_a_changed_and_a_removed_file(tmp_path: Path) -> None:
    """A contract that was edited counts at the next look; a removed one is gone."""
    library = ContractLibrary(tmp_path)
    library.save(SHORT)
    library.get("a")
    path = tmp_path / "a.yaml"
    path.write_text(SHORT + "capabilities: [x]", encoding="utf-8")
    os.utime(path, ns=(1, 1))
    changed = library.get("a")
    assert changed is not None
    assert changed.grants("x")
    path.unlink()
    assert library.get("a") is None


def test_a_broken_contract_stops_its_own_agent_only(tmp_path: Path) -> None:
    """The agent of a broken file gets the error, another agent does not."""
    (tmp_path / "x.yaml").write_text("name: a\noops: 1\n", encoding="utf-8")
    library = ContractLibrary(tmp_path)
    with pytest.raises(ContractError, match=r"x.yaml:"):
        library.get("a")
    assert library.get("b") is None


def test_an_ambiguous_name_is_refused(tmp_path: Path) -> None:
    """Two files with one name, or a file that declares another name, are named."""
    for name in ("x.yaml", "y.yaml"):
        (tmp_path / name).write_text(SHORT, encoding="utf-8")
    library = ContractLibrary(tmp_path)
    with pytest.raises(ContractError, match=r"two contracts are named 'a': 'x.yaml' and 'y.yaml'"):
        library.get("a")
    with pytest.raises(ContractError, match=r"declares the name 'a'; rename the file to a.yaml"):
        library.get("x")


def test_a_wrong_contract_is_not_saved(tmp_path: Path) -> None:
    """Nothing is written when the text is not a contract."""
    with pytest.raises(ContractError):
        ContractLibrary(tmp_path).save("name: a")
    assert list(tmp_path.iterdir()) == []
