"""The `agentfs` command: parse, call the library, render; no file system logic lives here."""
