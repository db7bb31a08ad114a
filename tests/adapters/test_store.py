"""`FmosStore`: as `InMemoryStore` where that is defined, and what only a branch can do."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, TypedDict

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agentfs import AgentFS

pytest.importorskip("langgraph")

from langgraph.checkpoint.serde.base import CipherProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.graph import END, START, StateGraph
from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    SearchItem,
    SearchOp,
    TTLConfig,
)
from langgraph.store.memory import InMemoryStore

from fmos_langgraph import FmosSaver, FmosStore
from fmos_langgraph.items import ROOT

MINUTE_NS = 60 * 10**9


class Clock:
    """Tells the time that the test says, when called."""

    def __init__(self) -> None:
        self.now_ns = 1_700_000_000 * 10**9

    def __call__(self) -> int:
        """Return nanoseconds since 1970."""
        return self.now_ns

    def advance(self, minutes: float) -> None:
        """Let time pass."""
        self.now_ns += int(minutes * MINUTE_NS)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


def timed(path: Path, clock: Clock, **ttl: Any) -> FmosStore:
    """Return a store in a new volume that goes by a clock; keep a reference to close it."""
    fs = AgentFS.open(path / "s.afs", system=True)
    return FmosStore(fs, ttl=TTLConfig(**ttl), clock=clock, owns_fs=True)


def keys(found: list[SearchItem]) -> list[str]:
    """Return the keys of what a search found."""
    return [each.key for each in found]


def item(store: FmosStore, namespace: tuple[str, ...], key: str) -> Item:
    """Return an item that must be there."""
    found = store.get(namespace, key)
    assert found is not None
    return found


# -- as InMemoryStore -----------------------------------------------------------------------

LABELS = st.sampled_from(["a", "b", "!a", "a/b", "%", "..", "ä ö", "\ud800", "L" * 200])
NAMESPACES = st.lists(LABELS, min_size=1, max_size=3).map(tuple)
PREFIXES = st.lists(LABELS, max_size=2).map(tuple)
KEYS = st.sampled_from(["k", "K", "", ".", "!", "x/y", "k" * 300, "l" * 300])
NUMBERS = st.integers(0, 3)
VALUES = st.fixed_dictionaries(
    {"n": NUMBERS, "in": st.fixed_dictionaries({"list": st.lists(NUMBERS, max_size=2)})},
    optional={"text": st.sampled_from(["one", "two"])},
)
OPERATORS = st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"])
FILTERS = st.one_of(
    st.none(),
    st.fixed_dictionaries({"n": st.dictionaries(OPERATORS, NUMBERS, min_size=1, max_size=2)}),
    st.fixed_dictionaries({"text": st.one_of(st.just("one"), st.just({"$ne": "one"}))}),
    st.fixed_dictionaries({"in": st.fixed_dictionaries({"list": st.lists(NUMBERS, max_size=2)})}),
    st.fixed_dictionaries({"in": st.just({"list": [{"$gt": 1}]})}),
)
PATTERNS = st.lists(st.one_of(LABELS, st.just("*")), min_size=1, max_size=3).map(tuple)
CONDITIONS = st.builds(MatchCondition, st.sampled_from(["prefix", "suffix"]), PATTERNS)
# As functions of what varies: `builds` would fill in every field of an operation.
OPS = st.one_of(
    st.builds(lambda *put: PutOp(*put), NAMESPACES, KEYS, st.one_of(VALUES, VALUES, st.none())),
    st.builds(lambda *get: GetOp(*get), NAMESPACES, KEYS),
    st.builds(lambda *asked: SearchOp(*asked, limit=1000), PREFIXES, FILTERS),
    st.builds(
        lambda *asked: ListNamespacesOp(*asked), st.lists(CONDITIONS, max_size=2).map(tuple),
        st.one_of(st.none(), st.integers(0, 3)), st.integers(0, 5), st.integers(-1, 2),
    ),
)  # fmt: skip


def plain(result: Any) -> Any:
    """Return a result without its times, and a search's items in one order."""
    if isinstance(result, Item):
        return result.namespace, result.key, result.value
    if isinstance(result, list) and result and isinstance(result[0], Item):
        return sorted(map(plain, result), key=repr)
    return result


def answers(model: InMemoryStore, ops: list[Op]) -> list[Any]:
    """Return what the model answers, reading before its puts as in one batch.

    It would also list namespaces of which no item is left, or that were only asked for.
    """
    found: list[Any] = []
    for op in ops:
        for namespace in [each for each, items in model._data.items() if not items]:
            del model._data[namespace]
        found.append(None if isinstance(op, PutOp) else model.batch([op])[0])
    model.batch([op for op in ops if isinstance(op, PutOp)])
    return found


@settings(
    max_examples=60, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(batches=st.lists(st.lists(OPS, max_size=8), min_size=1, max_size=8))
@example(
    batches=[
        [PutOp(("L" * 200,), "k" * 300, {"n": 1})],
        [SearchOp((), limit=9), ListNamespacesOp()],
    ]
)
@example(batches=[[PutOp(("a",), "k", {"n": 1}), GetOp(("a",), "k")], [GetOp(("a",), "k")]])
def test_any_batches_answer_as_in_memory(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Op]]
) -> None:
    """Random batches give what LangGraph's own store gives, read by a second store as well."""
    model = InMemoryStore()
    with FmosStore.from_path(tmp_path_factory.mktemp("s") / "s.afs") as store:
        for ops in batches:
            # It also lists namespaces of which no item is left, or that were only asked for.
            for namespace in [each for each, items in model._data.items() if not items]:
                del model._data[namespace]
            reading = [op for op in ops if not isinstance(op, PutOp)]
            other = FmosStore.from_fs(store.fs).batch(reading)
            expected = [plain(each) for each in answers(model, ops)]
            assert [plain(each) for each in store.batch(ops)] == expected
            told = [each for op, each in zip(ops, expected, strict=True) if op in reading]
            assert [plain(each) for each in other] == told


def test_search_gives_newest_first_in_pages(tmp_path: Path) -> None:
    """Without a query, items come by their last update, also across namespaces and batches."""
    with FmosStore.from_path(tmp_path / "s.afs") as store:
        for n in range(4):
            store.put(("a", str(n % 2)), f"k{n}", {"n": n})
        store.batch([PutOp(("a", "2"), f"k{n}", {"n": n}) for n in (4, 5)])
        store.put(("a", "0"), "k0", {"n": 9})
        assert keys(store.search(("a",))) == ["k0", "k5", "k4", "k3", "k2", "k1"]
        assert keys(store.search(("a",), limit=2, offset=1)) == ["k5", "k4"]
        assert keys(store.search(("a", "1"), filter={"n": {"$lt": 3}})) == ["k1"]
        again = item(store, ("a", "0"), "k0")
        assert again.created_at < again.updated_at


def test_later_put_of_a_batch_is_newer(tmp_path: Path, clock: Clock) -> None:
    """Items of one batch have an order also where the clock does not tell their times apart."""
    with timed(tmp_path, clock) as store:
        store.batch([PutOp(("a",), key, {}) for key in "abc"])
        assert keys(store.search(("a",))) == ["c", "b", "a"]


def test_value_without_order_does_not_match(tmp_path: Path) -> None:
    """A comparison with a text, or with nothing, is false; an unknown operator is an error."""
    with FmosStore.from_path(tmp_path / "s.afs") as store:
        store.put(("a",), "text", {"n": "many"})
        store.put(("a",), "none", {})
        store.put(("a",), "two", {"n": "2"})
        assert keys(store.search(("a",), filter={"n": {"$gt": 1}})) == ["two"]
        with pytest.raises(ValueError, match=r"not '\$regex'"):
            store.search(("nothing",), filter={"n": {"$regex": "x"}})


def test_what_is_handed_out_is_a_copy(tmp_path: Path) -> None:
    """Changing what get or search returned changes nothing in the store."""
    with FmosStore.from_path(tmp_path / "s.afs") as store:
        store.put(("a",), "k", {"list": [1]})
        item(store, ("a",), "k").value["list"].append(2)
        store.search(("a",))[0].value["list"].append(3)
        assert store.search(("a",))[0].value == {"list": [1]}


def test_batch_is_one_transaction(tmp_path: Path) -> None:
    """When one put of a batch fails, none of them happened, and searches know."""
    with FmosStore.from_path(tmp_path / "s.afs") as store:
        store.put(("a",), "k", {"n": 1})
        deep = ("L" * 100,) * 120
        with pytest.raises(OSError, match="8192"):
            store.batch([PutOp(("a",), "k", {"n": 2}), PutOp(deep, "k", {})])
        assert [each.value for each in store.search(("a",))] == [{"n": 1}]


def test_undone_transaction_leaves_no_trace_in_searches(tmp_path: Path) -> None:
    """What a search saw inside a transaction that failed is not found later."""
    with FmosStore.from_path(tmp_path / "s.afs") as store:
        store.put(("a",), "k", {"text": "old"})
        with pytest.raises(ZeroDivisionError), store.fs.transaction():
            store.put(("a",), "k", {"text": "new"})
            assert len(store.search(("a",), query="new")) == 1
            _ = 1 / 0
        # The journal's row of this put has the number of the one that was undone.
        store.put(("a",), "other", {"text": "later"})
        assert store.search(("a",), query="new") == []
        assert keys(store.search(("a",), query="old later")) == ["other", "k"]


# -- with the branch ------------------------------------------------------------------------


def test_fork_has_the_items_and_keeps_its_own(tmp_path: Path) -> None:
    """A fork begins with the parent's items; what either does later, the other does not see."""
    with FmosStore.from_path(tmp_path / "s.afs") as store:
        store.put(("a",), "k", {"text": "common"})
        fork = FmosStore.from_fs(store.fs.fork("try"))
        assert keys(fork.search(("a",), query="common")) == ["k"]
        fork.put(("a",), "k", {"text": "forked"})
        store.put(("a",), "m", {"text": "parent"})
        assert keys(fork.search((), query="common parent")) == []
        assert keys(store.search((), query="forked")) == []
        assert keys(store.search((), query="common parent")) == ["m", "k"]


def test_restore_brings_items_and_their_words_back(tmp_path: Path) -> None:
    """After a restore, get, search and query are as they were at the snapshot."""
    with FmosStore.from_path(tmp_path / "s.afs") as store:
        store.put(("a",), "k", {"text": "first"})
        store.put(("a",), "gone", {"text": "first too"})
        store.fs.snapshot("before")
        store.put(("a",), "k", {"text": "second"})
        store.delete(("a",), "gone")
        assert keys(store.search((), query="first")) == []
        store.fs.restore("before")
        assert sorted(keys(store.search((), query="first"))) == ["gone", "k"]
        assert keys(store.search((), query="second")) == []
        assert item(store, ("a",), "k").value == {"text": "first"}


def test_past_state_can_be_read(tmp_path: Path, clock: Clock) -> None:
    """A store on a view of a snapshot answers, and refreshes nothing."""
    store = timed(tmp_path, clock, default_ttl=10, sweep_interval_minutes=1)
    with store:
        store.put(("a",), "k", {"text": "first"})
        store.fs.snapshot("before")
        store.delete(("a",), "k")
        clock.advance(5)
        past = FmosStore(store.fs.at("before"), ttl=store.ttl_config, clock=clock)
        assert item(past, ("a",), "k").value == {"text": "first"}
        assert keys(past.search((), query="first")) == ["k"]


def test_merge_joins_items_also_of_an_emptied_namespace(tmp_path: Path) -> None:
    """What the fork deleted and what the parent added in one namespace is no conflict."""
    with FmosStore.from_path(tmp_path / "s.afs") as store:
        store.put(("a",), "k", {"text": "one"})
        fork = FmosStore.from_fs(store.fs.fork("try"))
        fork.delete(("a",), "k")
        fork.put(("b",), "k", {"text": "from the fork"})
        store.put(("a",), "m", {"text": "two"})
        store.search((), query="one")
        store.fs.merge("try")
        assert store.list_namespaces() == [("a",), ("b",)]
        assert keys(store.search((), query="one two fork")) == ["m", "k"]
        fork.delete(("b",), "k")
        assert fork.list_namespaces() == []


def test_branch_made_anew_and_gc_are_noticed(tmp_path: Path) -> None:
    """A handle's store sees another branch of its name, and what changed before gc cut the rows."""
    with FmosStore.from_path(tmp_path / "s.afs") as store:
        store.put(("a",), "k", {"text": "one"})
        fork = FmosStore.from_fs(store.fs.fork("try"))
        assert keys(fork.search(())) == ["k"]
        store.delete(("a",), "k")
        store.fs.delete_branch("try")
        store.fs.fork("try")
        assert keys(fork.search(())) == []
        store.put(("a",), "m", {"text": "two"})
        assert keys(store.search(())) == ["m"]
        FmosStore.from_fs(store.fs).delete(("a",), "m")
        store.fs.gc(retention=0)
        assert keys(store.search(())) == []


def test_folders_moved_by_hand_are_followed(tmp_path: Path) -> None:
    """A copy, rename or removal of a namespace's folder shows in what is listed."""
    with FmosStore.from_path(tmp_path / "s.afs") as store:
        store.put(("a",), "k", {"text": "one"})
        assert store.list_namespaces() == [("a",)]
        store.fs.copy(f"{ROOT}/a", f"{ROOT}/b")
        assert store.list_namespaces() == [("a",), ("b",)]
        store.fs.rename(f"{ROOT}/a", f"{ROOT}/c")
        assert store.list_namespaces() == [("b",), ("c",)]
        store.fs.remove("/.fmos", recursive=True)
        assert store.list_namespaces() == []


def test_looks_after_a_put_read_only_what_is_new(tmp_path: Path) -> None:
    """A search after one put among many costs no listing of all folders."""
    with FmosStore.from_path(tmp_path / "s.afs") as store:
        store.batch([PutOp(("a", str(n)), "k", {"n": n}) for n in range(50)])
        store.search(())
        store.fs.write("/other.txt", "x")
        store.put(("a", "7"), "k", {"n": "new"})
        with store.fs.reading():
            rows = store._catalogue._new_rows()
            assert rows is not None
            assert store._catalogue._changed(rows) == {f"{ROOT}/a/7/!k"}
        assert store.search(())[0].value == {"n": "new"}


# -- time to live ---------------------------------------------------------------------------


def test_sweep_deletes_what_is_over(tmp_path: Path, clock: Clock) -> None:
    """Items go when their own or the default time is over; None is for ever."""
    with timed(tmp_path, clock, default_ttl=10, refresh_on_read=False) as store:
        store.put(("a",), "default", {})
        store.put(("a",), "long", {}, ttl=60)
        store.put(("a",), "ever", {}, ttl=None)
        assert store.sweep_ttl() == 0
        clock.advance(10)
        assert sorted(keys(store.search(()))) == ["default", "ever", "long"]
        assert store.sweep_ttl() == 1
        clock.advance(1000)
        assert store.sweep_ttl() == 1
        assert keys(store.search(())) == ["ever"]


def test_expired_items_are_omitted_where_asked(tmp_path: Path, clock: Clock) -> None:
    """With omit_expired no read shows an expired item, and a put makes a new one."""
    with timed(tmp_path, clock, omit_expired=True) as store:
        store.put(("a",), "k", {"text": "word"}, ttl=1)
        clock.advance(1)
        assert store.get(("a",), "k") is None
        assert store.search((), query="word") == store.search(()) == []
        assert store.list_namespaces() == []
        store.put(("a",), "k", {"text": "word"})
        made = item(store, ("a",), "k")
        assert made.created_at == made.updated_at


@pytest.mark.parametrize("by_search", [False, True])
def test_reading_begins_the_time_anew(tmp_path: Path, clock: Clock, by_search: bool) -> None:
    """A read with refresh moves the end and not the update; one without leaves both."""

    def read(refresh: bool) -> Any:
        if by_search:
            return store.search(("a",), refresh_ttl=refresh)[0].updated_at
        found = store.get(("a",), "k", refresh_ttl=refresh)
        return found and found.updated_at

    with timed(tmp_path, clock) as store:
        store.put(("a",), "k", {}, ttl=10)
        before = read(False)
        clock.advance(9)
        assert read(True) == before
        clock.advance(9)
        assert store.sweep_ttl() == 0
        assert read(False) == before
        clock.advance(1)
        assert store.sweep_ttl() == 1


def test_batch_that_puts_refreshes_what_it_reads(tmp_path: Path, clock: Clock) -> None:
    """A get beside a put begins the item's time anew, and a put of None beside it deletes."""
    with timed(tmp_path, clock) as store:
        for key in ("k", "gone"):
            store.put(("a",), key, {}, ttl=10)
        clock.advance(9)
        gets = [GetOp(("a",), "k"), GetOp(("a",), "gone")]
        store.batch([*gets, PutOp(("a",), "new", {}), PutOp(("a",), "gone", None)])
        clock.advance(9)
        assert store.sweep_ttl() == 0
        assert keys(store.search(())) == ["new", "k"]


def test_reading_in_a_row_writes_once(tmp_path: Path, clock: Clock) -> None:
    """A read that would move the end by less than a hundredth writes nothing."""
    with timed(tmp_path, clock) as store:
        store.put(("a",), "k", {}, ttl=100)
        rows = len(store.fs.log())
        clock.advance(0.5)
        store.get(("a",), "k")
        assert len(store.fs.log()) == rows
        clock.advance(1)
        store.get(("a",), "k")
        store.get(("a",), "k")
        assert len(store.fs.log()) == rows + 1


def test_batch_after_the_interval_sweeps(tmp_path: Path, clock: Clock) -> None:
    """The first batch after the interval deletes what is over, before it answers."""
    with timed(tmp_path, clock, sweep_interval_minutes=5, refresh_on_read=False) as store:
        store.put(("a",), "k", {}, ttl=1)
        clock.advance(4)
        assert store.get(("a",), "k") is not None
        clock.advance(1)
        assert store.get(("a",), "k") is None
        assert store.fs.listdir(f"{ROOT}/a") == []


def test_serializer_encrypts_values(tmp_path: Path) -> None:
    """With an encrypting serializer no value is in the file, and items are found as always."""
    serde = EncryptedSerializer(Flipped())
    with FmosStore.from_path(tmp_path / "s.afs", serde=serde) as store:
        store.put(("a",), "k", {"text": "a plain secret " * 1000})
        assert keys(store.search(("a",), query="secret", filter={"text": {"$ne": 1}})) == ["k"]
        assert b"secret" not in store.fs.read(f"{ROOT}/a/!k")
        with pytest.raises(ValueError, match="encrypted"):
            FmosStore.from_fs(store.fs).get(("a",), "k")


class Flipped(CipherProtocol):
    """Turns each bit: enough to see whether something is encrypted."""

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        """Return the bytes with all bits turned."""
        return "flip", bytes(each ^ 0xFF for each in plaintext)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        """Turn the bits back."""
        return bytes(each ^ 0xFF for each in ciphertext)


# -- full text ------------------------------------------------------------------------------


def test_query_ranks_by_words(tmp_path: Path) -> None:
    """The item with more and rarer words of the query comes first, with a higher score."""
    with FmosStore.from_path(tmp_path / "s.afs") as store:
        texts = {
            "tea": "Ada drinks green tea",
            "coffee": "Ben drinks coffee, coffee and more coffee",
            "train": "The trains to Zürich",
            "other": "something else",
        }
        for key, text in texts.items():
            store.put(("facts",), key, {"kind": "fact", "text": text, "deep": [{"n": 4711}]})
        store.put(("elsewhere",), "coffee", {"text": "coffee"})
        found = store.search(("facts",), query="who drinks coffee?")
        assert keys(found) == ["coffee", "tea"]
        scores = [each.score or 0 for each in found]
        assert scores[0] > scores[1] > 0
        assert keys(store.search(("facts",), query="a TRAIN to zurich", limit=1)) == ["train"]
        assert len(store.search(("facts",), query="4711")) == 4
        assert keys(store.search(("facts",), query="drinks", filter={"text": texts["tea"]})) == [
            "tea"
        ]
        assert store.search(("facts",), query="kind") == []
        assert store.search(("facts",), query='"?! * NEAR(') == []
        assert store.search(("facts",))[0].score is None


def test_index_says_what_a_query_finds(tmp_path: Path) -> None:
    """`index` at a put wins over the store's fields; False hides the item from queries only."""
    value = {"title": "alpha", "body": [{"text": "beta"}, {"text": "gamma"}]}
    with FmosStore.from_path(tmp_path / "s.afs", fields=["title"]) as store:
        store.put(("a",), "default", value)
        store.put(("a",), "paths", value, index=["body[*].text"])
        store.put(("a",), "hidden", value, index=False)
        assert keys(store.search((), query="alpha")) == ["default"]
        assert keys(store.search((), query="beta")) == ["paths"]
        assert keys(store.search((), query="gamma")) == ["paths"]
        assert len(store.search(())) == 3


def test_scores_do_not_depend_on_what_was(tmp_path: Path) -> None:
    """A store that followed many changes scores as one that opens the branch afresh."""
    with FmosStore.from_path(tmp_path / "s.afs") as store:
        for n in range(30):
            store.put(("a",), f"k{n % 7}", {"text": f"word{n % 3} common {n}"})
            if n % 5 == 0:
                store.delete(("a",), f"k{(n + 3) % 7}")
            store.search((), query="common")
        fresh = FmosStore.from_fs(store.fs)
        query = "common word1 29"
        assert store.search((), query=query) == fresh.search((), query=query)
        assert len(fresh.search((), query=query)) > 3


# -- together -------------------------------------------------------------------------------


def test_two_processes_see_each_other(tmp_path: Path) -> None:
    """What another process puts and deletes is found, also by a query that was asked before."""
    code = (
        "import sys\n"
        "from fmos_langgraph import FmosStore\n"
        "with FmosStore.from_path(sys.argv[1]) as store:\n"
        "    print(store.search((), query='ours')[0].key)\n"
        "    store.put(('b',), 'theirs', {'text': 'theirs'})\n"
        "    store.delete(('a',), 'gone')\n"
    )
    with FmosStore.from_path(tmp_path / "s.afs") as store:
        store.put(("a",), "k", {"text": "ours"})
        store.put(("a",), "gone", {"text": "theirs"})
        assert keys(store.search((), query="theirs")) == ["gone"]
        done = subprocess.run(
            [sys.executable, "-c", code, str(store.fs.path)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.stdout == "k\n", done.stderr
        assert keys(store.search((), query="theirs")) == ["theirs"]


def test_threads_lose_no_put(tmp_path: Path) -> None:
    """Threads that put and search at once leave every item, and a right index."""
    with FmosStore.from_path(tmp_path / "s.afs") as store:
        failed: list[BaseException] = []
        start = threading.Barrier(4)

        def work(worker: int) -> None:
            try:
                start.wait(5)
                for n in range(15):
                    store.put((str(worker),), str(n), {"text": f"by {worker}"})
                    assert len(store.search((str(worker),), query="by", limit=99)) == n + 1
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(60)
        assert failed == []
        assert len(store.search((), limit=99)) == 60


class Question(TypedDict):
    question: str
    answer: str


def rememberer(saver: FmosSaver, store: FmosStore, asynchronous: bool = False) -> Any:
    """Return a graph that remembers each question and answers with how many it found."""

    def remember(state: Question, *, store: BaseStore) -> dict[str, str]:
        found = store.search(("asked",), query=state["question"])
        store.put(("asked",), state["question"], {"text": state["question"]})
        return {"answer": ",".join(keys(found))}

    async def recall(state: Question, *, store: BaseStore) -> dict[str, str]:
        found = await store.asearch(("asked",))
        return {"answer": f"{state['answer']}|{len(found)}"}

    def count(state: Question, *, store: BaseStore) -> dict[str, str]:
        return {"answer": f"{state['answer']}|{len(store.search(('asked',)))}"}

    graph = StateGraph(Question)
    graph.add_node("remember", remember)
    graph.add_node("recall", recall if asynchronous else count)
    graph.add_edge(START, "remember")
    graph.add_edge("remember", "recall")
    graph.add_edge("recall", END)
    return graph.compile(checkpointer=saver, store=store)


def test_graph_uses_saver_and_store_of_one_volume(tmp_path: Path) -> None:
    """A compiled graph remembers across threads, sync and async, and a fork takes all along."""
    with FmosSaver.from_path(tmp_path / "s.afs") as saver:
        graph = rememberer(saver, FmosStore.from_fs(saver.fs))
        first = graph.invoke({"question": "blue sky"}, {"configurable": {"thread_id": "1"}})
        assert first["answer"] == "|1"
        graph = rememberer(saver, FmosStore.from_fs(saver.fs), asynchronous=True)
        run = graph.ainvoke({"question": "blue sea"}, {"configurable": {"thread_id": "2"}})
        assert asyncio.run(run)["answer"] == "blue sky|2"
        fork = saver.fs.fork("try")
        other = rememberer(FmosSaver.from_fs(fork), FmosStore.from_fs(fork))
        third = other.invoke({"question": "sea"}, {"configurable": {"thread_id": "3"}})
        assert third["answer"] == "blue sea|3"
        assert len(FmosStore.from_fs(saver.fs).search(("asked",))) == 2


def test_async_methods_and_context(tmp_path: Path) -> None:
    """Everything of the interface works in an event loop, many calls at once."""

    async def work() -> None:
        async with FmosStore.from_home(tmp_path / "home") as store:
            puts = (store.aput(("a", str(n % 2)), str(n), {"n": n}) for n in range(10))
            await asyncio.gather(*puts)
            assert len(await store.asearch(("a",), limit=20)) == 10
            assert await store.alist_namespaces(max_depth=1) == [("a",)]
            await store.adelete(("a", "0"), "0")
            assert await store.aget(("a", "0"), "0") is None

    asyncio.run(work())
    assert (tmp_path / "home" / "langgraph.afs").exists()
