"""Hypothesis strategies of sequences, for property tests: they shrink to short sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

try:
    from hypothesis import strategies as st
except ImportError as error:
    from fmos.errors import MissingExtraError

    raise MissingExtraError("hypothesis is not installed", hint="pip install hypothesis") from error

from fmos.equivalence.model import Step

PATHS = ("/a.txt", "/docs/b.txt", "/.fmos/x")
TOOLS = ("read_file", "write_file", "remove_file", "send_mail")
MODELS = ("local/8B", "small")


def steps(
    *,
    paths: Sequence[str] = PATHS,
    tools: Sequence[str] = TOOLS,
    models: Sequence[str] = MODELS,
    max_size: int = 8,
) -> st.SearchStrategy[list[Step]]:
    """Return a strategy of sequences of at most `max_size` steps."""
    text = st.text("abc xyz", min_size=1, max_size=12).filter(lambda each: bool(each.strip()))
    arguments = st.fixed_dictionaries({"path": st.sampled_from(paths), "content": text})
    tokens = st.integers(1, 200)
    each: list[st.SearchStrategy[Any]] = [
        st.builds(Step, do=st.just("tool"), name=st.sampled_from(tools), arguments=arguments),
        st.builds(Step, do=st.just("model"), name=st.sampled_from(models), tokens=tokens),
        st.builds(Step, do=st.just("remember"), text=text),
        st.builds(Step, do=st.just("recall"), text=text),
        st.builds(Step, do=st.just("answer"), approve=st.booleans()),
    ]
    return st.lists(st.one_of(each), min_size=1, max_size=max_size)
