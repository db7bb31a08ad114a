"""The names of spans' attributes and of metrics, by OpenTelemetry's semantic conventions.

`gen_ai.*` and `mcp.*` are written down here because the package that has them keeps them in a
module for what is not stable yet, and may move them; a test holds these against it. `fmos.*` is
ours: docs/telemetry.md lists them all.
"""

from __future__ import annotations

from typing import Final

AGENT_ID: Final = "gen_ai.agent.id"
AGENT_NAME: Final = "gen_ai.agent.name"
CONVERSATION: Final = "gen_ai.conversation.id"
OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
TOKEN_TYPE: Final = "gen_ai.token.type"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
TOOL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_RESULT: Final = "gen_ai.tool.call.result"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
MCP_METHOD: Final = "mcp.method.name"
MCP_VERSION: Final = "mcp.protocol.version"
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
TRANSPORT: Final = "network.transport"

CHAT: Final = "chat"
EXECUTE_TOOL: Final = "execute_tool"
INVOKE_AGENT: Final = "invoke_agent"
TOOLS_CALL: Final = "tools/call"

TENANT: Final = "fmos.tenant"
APPLICATION: Final = "fmos.application"
AGENT: Final = "fmos.agent"
SESSION: Final = "fmos.session"
OPERATION_ID: Final = "fmos.operation.id"
OPERATION_KIND: Final = "fmos.operation.kind"
OPERATION_TARGET: Final = "fmos.operation.name"
DECISION: Final = "fmos.decision"
REASONS: Final = "fmos.reasons"
POLICY: Final = "fmos.policy"
PATH: Final = "fmos.path"
SIGNALS: Final = "fmos.signals"
JOURNAL_SEQ: Final = "fmos.journal.seq"
APPROVAL: Final = "fmos.approval.id"
DOOR: Final = "fmos.door"
ERROR_CODE: Final = "fmos.error.code"
ADDED_MS: Final = "fmos.added_ms"
CALLS_MS: Final = "fmos.calls_ms"
ONSET_MS: Final = "fmos.onset_ms"
TOKENS: Final = "fmos.usage.tokens"
TOKENS_PER_SECOND: Final = "fmos.tokens_per_second"
TOOL_MS: Final = "fmos.tool.duration_ms"
STATUS: Final = "fmos.status"
HITS: Final = "fmos.retrieval.hits"
HIT_RATE: Final = "fmos.retrieval.hit_rate"
SOURCES: Final = "fmos.retrieval.source_digests"
SOURCE_NAMES: Final = "fmos.retrieval.sources"
CONTEXT_TOKENS: Final = "fmos.context.tokens"
CONTEXT_TOKENS_RAW: Final = "fmos.context.tokens_raw"
CONTEXT_MESSAGES: Final = "fmos.context.messages"
CONTEXT_PAGED_OUT: Final = "fmos.context.paged_out"
LAYER: Final = "fmos.layer"
RESOURCE: Final = "fmos.resource"

CLIENT_TOKENS: Final = "gen_ai.client.token.usage"
CLIENT_DURATION: Final = "gen_ai.client.operation.duration"
TOOL_DURATION: Final = "gen_ai.execute_tool.duration"
MCP_SERVER_DURATION: Final = "mcp.server.operation.duration"
MCP_CLIENT_DURATION: Final = "mcp.client.operation.duration"
OPERATIONS: Final = "fmos.operations"
SPENT: Final = "fmos.ledger.spent"
REFUSED: Final = "fmos.ledger.refused"
TRAP_FAST: Final = "fmos.trap.fast"
TRAP_SLOW: Final = "fmos.trap.slow"
OVERHEAD: Final = "fmos.overhead"

#: Which kind of operation a served tool is, for those that are one without an `op.intent` row.
KINDS: Final = {
    "memory_write": "memory.write",
    "memory_update": "memory.write",
    "memory_delete": "memory.write",
    "memory_link": "memory.write",
    "memory_ingest": "memory.write",
    "memory_search": "memory.read",
    "memory_get": "memory.read",
    "memory_history": "memory.read",
    "memory_list": "memory.read",
    "context_compose": "context.compose",
}

#: Providers by how their models' names begin, in the words of the conventions.
_PROVIDERS = (
    (("gpt", "o1", "o3", "o4", "chatgpt", "openai"), "openai"),
    (("claude", "anthropic"), "anthropic"),
    (("gemini", "google"), "gcp.gemini"),
    (("mistral", "mixtral", "codestral", "magistral"), "mistral_ai"),
    (("deepseek",), "deepseek"),
    (("command", "cohere"), "cohere"),
    (("grok",), "x_ai"),
)


def provider_of(model: str) -> str:
    """Return the provider that a model's name tells of, else `_OTHER`."""
    bare = model.lower()
    for begins, provider in _PROVIDERS:
        if bare.startswith(begins):
            return provider
    return "_OTHER"
