"""Settings of the methods: pydantic models, importable without torch."""
