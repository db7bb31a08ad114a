"""Runs workflows: each step bound before it runs, done exactly once, undone when the run fails."""
