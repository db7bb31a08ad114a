"""One module per command, each with the function that typer calls."""
