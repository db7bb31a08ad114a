"""What an adapter says about a tool: the capability it needs, its effect, what its arguments are.

A manifest is a claim of the application, never of the model; it can only be as honest as the
application that registers it.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from fmos.types import Record

Effect = Literal["read", "write", "execute", "send"]
ArgumentRole = Literal["path", "recipient", "command", "body", "url"]


class ToolDescriptor(Record):
    """One tool as it is registered with the trust gate."""

    name: str = Field(min_length=1, max_length=256)
    capability: str = Field(
        default="", max_length=256, description="such as `fs.read`; empty: the tool's name"
    )
    effect: Effect
    roles: dict[str, ArgumentRole] = Field(
        default_factory=dict, description="argument name to what it means"
    )
    description: str = ""
    input_schema: dict[str, Any] | None = None
    title: str = ""
    output_schema: dict[str, Any] | None = None
    annotations: dict[str, Any] = Field(
        default_factory=dict,
        description="MCP's hints, such as `readOnlyHint`: what a server claims of its tool",
    )
    server: str = Field(
        default="",
        max_length=256,
        description="the MCP server it comes from; empty: the application itself",
    )

    @model_validator(mode="before")
    @classmethod
    def _capability_is_name(cls, value: Any) -> Any:
        if isinstance(value, dict) and not value.get("capability") and "name" in value:
            return {**value, "capability": value["name"]}
        return value

    def arguments_of(self, role: ArgumentRole) -> tuple[str, ...]:
        """Return the names of the arguments with that role."""
        return tuple(name for name, found in self.roles.items() if found == role)
