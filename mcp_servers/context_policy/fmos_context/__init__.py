"""The context-policy server: what a model sees of a session, and handles to all the rest."""
