"""The embedded default: a procedural captioned image world and its shipped weights."""
