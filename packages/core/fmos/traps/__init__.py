"""The trap table: which operations run at once and which go to a server."""
