"""`fmos check`: shows that every sensitive operation is privileged, or names each gap."""
