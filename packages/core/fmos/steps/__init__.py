"""Exactly-once steps, their compensation in reverse order, and what is put right at the start."""
