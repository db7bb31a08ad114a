"""`python -m agentfs.cli` is the `agentfs` command."""

from agentfs.cli.main import main

main()
