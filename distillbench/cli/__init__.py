"""The command line: one file a command; `main` names them."""
