"""The types of the tools' arguments, with the words that a model reads about them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Path = Annotated[str, Field(description="Absolute path, such as '/src/main.py'.", max_length=4096)]
Branch = Annotated[
    str,
    Field(description="A fork made with fs_fork; leave it out for this server's own branch."),
]
Cursor = Annotated[
    str, Field(description="next_cursor of the call before, to go on where it ended.")
]
IfNode = Annotated[
    int | None,
    Field(description="Do it only if the file is still this version ('node' of fs_read, fs_stat)."),
]
Moment = Annotated[
    str,
    Field(
        description="A fork, a snapshot, '@12' (after that row of fs_log), '-2h' (s, m, h, d, w) or"
        " a time with its zone."
    ),
]


def limit(top: int) -> object:
    """Return what bounds a number of items."""
    return Field(description="The most items to return.", ge=1, le=top)
