"""What a stage is told, typed: its spec, and the context that it runs in."""
