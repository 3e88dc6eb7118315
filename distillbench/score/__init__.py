"""The networks behind metrics, each loaded once a process, and the evaluation of one metric."""
