"""Takes secrets and personal data out of what a model reads and of what a call would send."""
