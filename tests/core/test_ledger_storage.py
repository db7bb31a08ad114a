"""The ledger's file: full disks, threads that end, and files of the first version."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from importlib import resources
from pathlib import Path

import apsw
import pytest
from tests.core.ledger_books import differences

from fmos.clock import FixedClock
from fmos.errors import FormatError, StorageError
from fmos.ledger.accounts import MAX_PARTS, Account, account_of
from fmos.ledger.ledger import Ledger
from fmos.ledger.owners import Owner, is_dead, this_process
from fmos.storage.database import Database, translate

ACCOUNT = account_of("t", "a", "x", "s")

# A limit on file sizes is the full disk that needs no mount: SQLite's write is refused likewise.
_FILLER = """
import resource, sys
from pathlib import Path
from fmos.clock import FixedClock
from fmos.errors import StorageError
from fmos.ledger.accounts import Account
from fmos.ledger.ledger import Ledger
from fmos.storage.database import Database

ledger = Ledger(Database(Path(sys.argv[1])), FixedClock())
account = Account(sys.argv[2])
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, most))
made = []
try:
    for number in range(1000):
        made.append(ledger.reserve(account, {"tokens": 7}, operation=f"op{number}", owner=None))
    sys.exit("the disk never filled up")
except StorageError as error:
    print(error, flush=True)
assert ledger.status(account)[-1].reserved == 7 * len(made)
for close in (ledger.commit, ledger.refund):
    try:
        close(made[0])
        sys.exit("it wrote to a full disk")
    except StorageError:
        pass
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
made.append(ledger.reserve(account, {"tokens": 7}, operation="after", owner=None))
print(len(made))
"""


def test_a_full_disk_reserves_nothing_and_says_what_to_do(tmp_path: Path) -> None:
    """A reservation fails closed, the books stay right, and it works once there is space."""
    path = tmp_path / "kernel.db"
    command = [sys.executable, "-c", _FILLER, str(path), str(ACCOUNT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    said, count = done.stdout.splitlines()
    assert "no space to write" in said
    assert "nothing was written; free space on its disk" in said
    database = Database(path)
    assert differences(database) == []
    ledger = Ledger(database, FixedClock())
    assert ledger.status(ACCOUNT)[-1].reserved == 7 * int(count)


def test_sqlites_errors_become_sentences() -> None:
    """What SQLite says of busy, full, broken and unreadable files is said with the way out."""
    path = Path("/x/kernel.db")
    busy = translate(apsw.BusyError(), path)
    assert isinstance(busy, StorageError)
    assert "kept '/x/kernel.db' locked for 30 s" in str(busy)
    assert "no space" in str(translate(apsw.FullError(), path))
    assert isinstance(translate(apsw.CorruptError(), path), FormatError)
    assert "check the disk" in str(translate(apsw.IOError(), path))
    wrong = apsw.SQLError("no such table")
    assert translate(wrong, path) is wrong


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    """A file that is no database is not opened, nor changed."""
    path = tmp_path / "kernel.db"
    path.write_bytes(b"not a database" * 500)
    with pytest.raises(FormatError, match="is not an FMOS database"):
        Database(path)
    assert path.read_bytes() == b"not a database" * 500


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    """Other users read neither the balances nor the log beside them."""
    database = Database(tmp_path / "kernel.db")
    database.execute("CREATE TABLE x(y)")
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes.keys() >= {"kernel.db", "kernel.db-wal"}
    assert set(modes.values()) == {0o600}


def test_threads_that_end_close_their_connections(tmp_path: Path) -> None:
    """A hundred short threads leave no descriptor behind."""
    database = Database(tmp_path / "kernel.db")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        thread = threading.Thread(target=database.query, args=("SELECT 1",))
        thread.start()
        thread.join()
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_actions_wait_for_the_end_of_a_transaction(tmp_path: Path) -> None:
    """They run after the outermost commit; after a rollback only those that always do."""
    database = Database(tmp_path / "kernel.db")
    ran: list[str] = []
    with database.transaction():
        with database.transaction():
            database.after(lambda: ran.append("inner"))
        assert ran == []
    assert ran == ["inner"]
    with pytest.raises(KeyError), database.transaction():
        database.after(lambda: ran.append("lost"))
        database.after(lambda: ran.append("kept"), always=True)
        raise KeyError
    assert ran == ["inner", "kept"]
    database.after(lambda: ran.append("now"))
    assert ran == ["inner", "kept", "now"]


def test_a_rolled_back_account_is_not_taken_for_another(tmp_path: Path) -> None:
    """An id that a rollback freed is not remembered: its next owner keeps its own balance."""
    ledger = Ledger(database := Database(tmp_path / "kernel.db"), FixedClock())
    with pytest.raises(KeyError), database.transaction():
        ledger.reserve(account_of("lost"), {"tokens": 5}, operation="a")
        raise KeyError
    ledger.reserve(account_of("other"), {"tokens": 3}, operation="b")
    ledger.reserve(account_of("lost"), {"tokens": 2}, operation="c")
    assert ledger.status(account_of("other"))[-1].reserved == 3
    assert differences(database) == []


def test_accounts_of_the_first_version_are_added_up_again(tmp_path: Path) -> None:
    """Leaves keep what they spent, ancestors the sum, limits their source, holds their time."""
    path = tmp_path / "kernel.db"
    _first_version(path)
    database = Database(path)
    clock = FixedClock(1_000)
    ledger = Ledger(database, clock)
    session = account_of("t", "", "boss", "s1")
    fork = Account(f"{session.path[3]}/agent:kid/session:k1")
    spent = {row.account: (row.reserved, row.spent, row.limit) for row in ledger.status(fork)}
    assert spent["org:default"] == (4, 36, None)
    assert spent[str(session.path[3])] == (4, 35, None)
    assert spent[str(fork)] == (0, 25, 100)
    balance = ledger.status(session)[-1]
    assert (balance.account, balance.reserved, balance.spent, balance.limit) == (session, 4, 10, 50)
    ledger.set_limit(session, "tokens", None)
    assert ledger.status(session)[-1].limit == 40  # the contract's
    clock.advance(10**6)
    assert ledger.expire() == 1
    assert ledger.status(session)[-1].reserved == 0
    assert differences(database) == []


def _first_version(path: Path) -> None:
    """Write what the first version left: two sessions, one of a fork, and a stray tenant."""
    database = Database(path)
    first = resources.files("fmos.ledger").joinpath("migrations", "0001_untyped.sql")
    database.install("ledger", [first.read_text(encoding="utf-8")])
    database.execute("CREATE TABLE budget_limit(account TEXT, resource TEXT, amount INTEGER)")
    database.execute("INSERT INTO budget_limit VALUES ('t/-/boss/s1', 'tokens', 40)")
    database.execute("INSERT INTO budget_limit VALUES ('t/-/boss/kid/k1', 'tokens', 100)")
    limits = [("t/-/boss/s1", 50), ("t/-/boss/kid/k1", 100)]
    totals = [
        ("t", 4, 36), ("t/-", 4, 35), ("t/-/boss", 4, 35), ("t/-/boss/s1", 4, 10),
        ("t/-/boss/kid", 0, 25), ("t/-/boss/kid/k1", 0, 25),
    ]  # fmt: skip
    made = [
        ("r1", "t/-/boss/s1", "committed", 10), ("r2", "t/-/boss/s1", "open", 4),
        ("r3", "t/-/boss/kid/k1", "committed", 25), ("r4", "t", "committed", 1),
    ]  # fmt: skip
    for account, amount in limits:
        database.execute("INSERT INTO account_limit VALUES (?, 'tokens', ?)", (account, amount))
    for account, reserved, spent in totals:
        row = (account, reserved, spent)
        database.execute("INSERT INTO account_total VALUES (?, 'tokens', ?, ?)", row)
    for name, account, state, amount in made:
        row = (name, account, name, state)
        database.execute("INSERT INTO reservation VALUES (?, ?, ?, ?, 1000000)", row)
        database.execute("INSERT INTO reservation_amount VALUES (?, 'tokens', ?)", (name, amount))
    database.close()


def test_a_newer_ledger_is_not_opened(tmp_path: Path) -> None:
    """An older FMOS says so and leaves the file alone."""
    database = Database(tmp_path / "kernel.db")
    Ledger(database, FixedClock())
    database.execute("UPDATE component SET version = 99 WHERE name = 'ledger'")
    with pytest.raises(FormatError, match="ledger tables of version 99"):
        Ledger(database, FixedClock())


def test_only_a_process_that_surely_ended_is_dead() -> None:
    """Another boot is over, a reused id is another; a container's processes cannot be seen."""
    here = this_process()
    assert here is not None
    assert not is_dead(here)
    assert is_dead(here._replace(started=here.started + 1))
    assert is_dead(here._replace(pid=2**22 + 1))
    assert is_dead(here._replace(boot="another"))
    assert not is_dead(Owner(here.boot, "pid:[1]", 2**22 + 1, 1))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "where org:NAME belongs"),
        ("t/app", "'t' where org:NAME belongs"),
        ("org:default/agent:a", "'agent:a' where tenant:NAME belongs"),
        ("org:default/tenant:", "'tenant:' where tenant:NAME belongs"),
        ("org:default/tenant:a b", "where tenant:NAME belongs"),
        ("org:default/tenant:t\n", "where tenant:NAME belongs"),
        (str(ACCOUNT) + "/user:u", "where step:NAME or agent:NAME belongs"),
        (str(ACCOUNT) + "/agent:a" * MAX_PARTS, "is too deep"),
    ],
)
def test_what_is_no_account_is_refused(text: str, why: str) -> None:
    """The error names the part and what belongs there."""
    with pytest.raises(ValueError, match=why):
        Account.parse(text)


def test_an_account_knows_its_path() -> None:
    """Parts that a principal leaves empty are `-` before one that is given, else the end."""
    assert account_of("t", "", "boss", "s1") == "org:default/tenant:t/app:-/agent:boss/session:s1"
    assert account_of("t") == "org:default/tenant:t"
    assert (ACCOUNT.kind, ACCOUNT.name, ACCOUNT.parent) == ("session", "s", ACCOUNT.path[3])
    assert ACCOUNT.path[-1] == ACCOUNT
    assert ACCOUNT.path[0].parent is None
    assert ACCOUNT.nearest("tenant") == account_of("t")
    fork = account_of("t", "", "kid", "k1", under=ACCOUNT)
    assert fork == f"{ACCOUNT}/agent:kid/session:k1"
    assert ACCOUNT.child("step", "7").path[:-1] == ACCOUNT.path
    with pytest.raises(ValueError, match="of the tenant 'u' cannot lie under"):
        account_of("u", "", "kid", under=ACCOUNT)


def test_what_waits_for_a_commit_is_forgotten_with_its_part(tmp_path: Path) -> None:
    """An action of a part that was rolled back does not run, unless it runs always."""
    database = Database(tmp_path / "k.db")
    ran: list[str] = []
    with database.transaction():
        database.after(lambda: ran.append("kept"))
        with pytest.raises(ZeroDivisionError), database.transaction():
            database.after(lambda: ran.append("rolled back"))
            database.after(lambda: ran.append("always"), always=True)
            raise ZeroDivisionError
        assert ran == []
    assert ran == ["kept", "always"]
