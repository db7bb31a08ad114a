"""A chat model that answers by a function of the messages it is sent, and keeps what it saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from pydantic import Field, PrivateAttr

Answer = Callable[[Sequence[BaseMessage]], AIMessage]


class ScriptedModel(BaseChatModel):
    """A real LangChain chat model without a network: `answer` says what it says."""

    answer: Answer
    model_name: str = "scripted"
    tool_names: list[str] = Field(default_factory=list)
    _seen: list[list[BaseMessage]] = PrivateAttr(default_factory=list)

    @property
    def seen(self) -> list[list[BaseMessage]]:
        """The messages of each call, oldest call first."""
        return self._seen

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        """Remember the tools' names and answer as before."""
        self.tool_names[:] = [tool.name for tool in tools]
        return self.bind()  # type: ignore[return-value]

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        self._seen.append(list(messages))
        return ChatResult(generations=[ChatGeneration(message=self.answer(messages))])


def call(name: str, call_id: str = "c1", **arguments: Any) -> AIMessage:
    """Return an answer that calls one tool."""
    return calls((name, call_id, arguments))


def calls(*wanted: tuple[str, str, dict[str, Any]]) -> AIMessage:
    """Return an answer that calls several tools at once."""
    made = [
        {"name": name, "id": call_id, "args": arguments, "type": "tool_call"}
        for name, call_id, arguments in wanted
    ]
    return AIMessage("", tool_calls=made)


def in_turn(*answers: AIMessage) -> Answer:
    """Return a script that gives its answers in turn, by how many the messages hold already."""

    def answer(messages: Sequence[BaseMessage]) -> AIMessage:
        given = sum(isinstance(message, AIMessage) for message in messages)
        return answers[min(given, len(answers) - 1)].model_copy(deep=True)

    return answer
