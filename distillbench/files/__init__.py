"""Reading and writing files: YAML with positions, JSON, digests, where things lie on this disk."""
