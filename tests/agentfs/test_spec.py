"""SPEC.md and the code say the same about the format."""

import re
from pathlib import Path

import apsw
import pytest

import agentfs
from agentfs import AgentFS
from agentfs.connection import APPLICATION_ID, FORMAT_VERSION

_PACKAGE = Path(str(agentfs.__file__)).parent
_SPEC = (Path(__file__).parents[2] / "agentfs" / "SPEC.md").read_text(encoding="utf-8")


@pytest.fixture
def database(tmp_path: Path) -> apsw.Connection:
    """A connection to a fresh volume."""
    path = str(tmp_path / "x.afs")
    AgentFS.open(path, create=True).close()
    return apsw.Connection(path)


def test_tables_and_columns_are_those_of_a_fresh_volume(database: apsw.Connection) -> None:
    """Every table and column is in SPEC.md in its order, and nothing else is."""
    section = _SPEC.split("## 3. ")[1].split("\n## 4. ")[0]
    stated = {
        part.split("\n", 1)[0].strip(): re.findall(r"^\| `(\w+)` \|", part, flags=re.MULTILINE)
        for part in section.split("\n### ")[1:]
    }
    tables = database.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    )
    real = {
        name: [row[1] for row in database.execute(f"PRAGMA table_info({name})")]
        for (name,) in tables.fetchall()
    }
    assert stated == real


def test_version_and_application_id_are_those_of_the_code(database: apsw.Connection) -> None:
    """The stated format version is the code's and the file's."""
    stated = re.search(r"Format version: \*\*(\d+)\*\*", _SPEC)
    assert stated is not None
    assert int(stated[1]) == FORMAT_VERSION == database.execute("PRAGMA user_version").get
    assert f"0x{APPLICATION_ID:08x}" in _SPEC


def test_sql_blocks_are_valid(database: apsw.Connection) -> None:
    """Every statement of a fenced SQL block can be prepared on a fresh volume."""
    blocks = re.findall(r"```sql\n(.*?)```", _SPEC, flags=re.DOTALL)
    statements = [each for block in blocks for each in block.split(";") if each.strip()]
    assert statements
    for statement in statements:
        names = dict.fromkeys(re.findall(r":(\w+)", statement))
        database.execute(f"EXPLAIN {statement}", names)


def test_invariants_of_fsck_are_numbered_in_the_spec() -> None:
    """The numbers that fsck reports are exactly those of SPEC.md."""
    section = _SPEC.split("## 5. ")[1].split("\n## 6. ")[0]
    stated = [int(n) for n in re.findall(r"^(\d+)\. ", section, flags=re.MULTILINE)]
    source = (_PACKAGE / "fsck.py").read_text(encoding="utf-8")
    used = {int(n) for n in re.findall(r"self\.add\((\d+),", source)}
    assert stated == list(range(1, len(stated) + 1))
    assert used
    assert used <= set(stated)
