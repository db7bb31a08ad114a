"""All that adapters may use: call a server's tools, in process or over MCP, and govern a run.

Loads no server, no MCP SDK and no HTTP library until a call needs one.
"""

from fmos.client.client import Client, connect
from fmos.client.governor import Governor
from fmos.traps.manifest import ToolDescriptor

__all__ = ["Client", "Governor", "ToolDescriptor", "connect"]
