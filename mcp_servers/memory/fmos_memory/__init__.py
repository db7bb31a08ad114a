"""The memory server: what an agent keeps between runs, following snapshot, fork and restore."""
