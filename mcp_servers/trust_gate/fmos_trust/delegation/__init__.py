"""What was delegated, to a sub-agent and to content: the judge, and the grants a person gives."""
