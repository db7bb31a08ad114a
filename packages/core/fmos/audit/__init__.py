"""What happened, kept so that it can be checked."""
