"""What all four servers share: the tool declaration, the MCP door, the hosting of all four."""
