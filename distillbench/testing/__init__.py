"""Contract tests for plug-ins: subclass one, name your class, run pytest."""
