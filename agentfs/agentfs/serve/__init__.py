"""`agentfs serve`: a branch as MCP tools, for agents that are not trusted with more than that.

`area` says what a server may reach; `reading`, `searching`, `writing` and `history` hold the tools'
behaviour and import no MCP code; `protocol` and `host` are the only modules that do.
"""
