"""The reasoning-budget server: how hard a model thinks, and what a session may spend on it."""
