"""One body through every door: same results, same errors, same words."""

from __future__ import annotations

import pytest

from fmos.errors import ArgumentError, NotFoundError


def test_same_calls_same_answers(memory):
    """A write, a search, a get and each kind of malformed call behave alike through every door."""
    written = memory("memory_write", {"text": "the release is on Friday", "tags": ["plan"]})
    assert written["text"] == "the release is on Friday"
    hits = memory("memory_search", {"query": "when is the release?"})["hits"]
    assert [hit["id"] for hit in hits] == [written["id"]]
    assert memory("memory_get", {"id": written["id"]}) == written
    for arguments, words in MALFORMED:
        with pytest.raises(ArgumentError) as caught:
            memory("memory_write", arguments)
        assert str(caught.value).startswith(words)
        assert "\n" not in str(caught.value)
    with pytest.raises(NotFoundError, match="nothing"):
        memory("memory_get", {"id": "nothing"})
    with pytest.raises(NotFoundError, match="there is no tool 'memory_wirte'"):
        memory("memory_wirte", {"text": "x"})


MALFORMED = (
    ({}, "argument 'text' is missing"),
    ({"text": 3}, "argument 'text': input should be a valid string (got 3)"),
    ({"text": "x", "kind": "vague"}, "argument 'kind': input should be 'episodic', "),
    ({"text": "x", "namspace": "a"}, "there is no argument 'namspace'"),
    ({"text": "x", "tags": [1]}, "argument 'tags.0': input should be a valid string"),
)
