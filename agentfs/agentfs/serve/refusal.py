"""What a tool says to a model when it does not do what was asked: one sentence with a next step."""

from __future__ import annotations


class ToolRefusal(Exception):
    """A tool call that cannot be done as it is; `code` is stable."""

    def __init__(self, sentence: str, code: str = "tool.refused") -> None:
        """Keep the sentence and the code."""
        super().__init__(sentence)
        self.code = code
