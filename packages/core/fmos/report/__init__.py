"""What agents spent, how long it took, and what was refused: from the journals, with DuckDB."""
