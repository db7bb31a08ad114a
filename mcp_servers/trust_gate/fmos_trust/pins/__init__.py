"""Tool pinning: a server's tools are what was accepted, until a person accepts a change."""
