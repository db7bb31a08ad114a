"""Asks a person through the client of a call (MCP elicitation), in both eras of the protocol.

Only where the client was started by whom the server serves: on stdio and on the unix socket, which
no sandboxed command has. Whoever has a token could answer for themselves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import anyio
import anyio.to_thread
from mcp.server.elicitation import render_elicitation_schema
from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPError
from mcp.types import CallToolResult, InputRequiredResult
from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitResult
from mcp_types.version import is_version_at_least
from pydantic import BaseModel, Field, ValidationError

from fmos.errors import FmosError
from fmos.serving.acting import door_name
from fmos.serving.toolset import Question, Toolset

_STATELESS = "2026-07-28"
_KEY = "fmos.approval"
_DOORS = ("stdio", "unix")
#: No client waits longer for an answer; what waits can still be answered by `fmos approve`.
_LONGEST_S = 600.0

_Call = Callable[[dict[str, Any]], Awaitable[CallToolResult]]


class Consent(BaseModel):
    """What a person answers in a client."""

    approve: bool = Field(default=False, title="Let it run", description="exactly this call, once")
    comment: str = Field(default="", title="Why", description="kept in the audit journal")


def can_ask(context: Context[Any, Any]) -> bool:
    """Return whether the client of a call offers to ask its user with a form."""
    if door_name() not in _DOORS:
        return False
    offered = context.client_capabilities
    elicitation = offered.elicitation if offered is not None else None
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)


async def asked(
    context: Context[Any, Any],
    toolsets: Sequence[Toolset],
    name: str,
    arguments: dict[str, Any],
    call: _Call,
) -> CallToolResult | InputRequiredResult:
    """Call a tool; where a person must be asked, ask them and call it again with their answer.

    Without an answer (cancelled, or out of time) the result is that it waits.
    """
    stateless = is_version_at_least(context.protocol_version or "", _STATELESS)
    given = (context.input_responses or {}).get(_KEY) if stateless else None
    # What ran before the call was noted in the first round.
    result = await call({**arguments, "settled": []} if given is not None else arguments)
    for toolset in toolsets:
        question = toolset.question(name, result.structured_content)
        if question is None:
            continue
        if stateless and (given is None or context.request_state != question.key):
            return _input_required(question)
        answer = given if stateless else await _elicited(context, question)
        if not isinstance(answer, ElicitResult) or answer.action == "cancel":
            return result
        consent = _consent(answer)
        by = f"client:{_client_name(context)}"
        with suppress(FmosError):  # somebody else was faster, or must answer: the verdict says so
            await anyio.to_thread.run_sync(
                toolset.answered, question, consent.approve, consent.comment, by
            )
        return await call({**arguments, **question.again})
    return result


def _input_required(question: Question) -> InputRequiredResult:
    return InputRequiredResult(
        input_requests={_KEY: ElicitRequest(params=_form(question))}, request_state=question.key
    )


def _form(question: Question) -> ElicitRequestFormParams:
    schema = render_elicitation_schema(Consent)
    return ElicitRequestFormParams(message=question.message, requested_schema=schema)


async def _elicited(context: Context[Any, Any], question: Question) -> ElicitResult | None:
    """Ask over the connection of the call; None where no answer came in time."""
    with anyio.move_on_after(min(question.left_s, _LONGEST_S)):
        try:
            return await context.session.elicit_form(
                message=question.message,
                requested_schema=render_elicitation_schema(Consent),
                related_request_id=context.request_context.request_id,
            )
        except (MCPError, ValidationError):  # it offered what it cannot do
            return None
    return None


def _consent(answer: ElicitResult) -> Consent:
    """Return what was answered; whatever is not plainly a yes is a no."""
    if answer.action != "accept":
        return Consent()
    try:
        return Consent.model_validate(answer.content or {}, strict=True)
    except ValidationError:
        return Consent()


def _client_name(context: Context[Any, Any]) -> str:
    params = context.session.client_params
    return params.client_info.name if params is not None and params.client_info else "unnamed"
