"""`python -m distillbench`: the command `distillbench`."""

from __future__ import annotations

from distillbench.cli.main import main

if __name__ == "__main__":
    main()
