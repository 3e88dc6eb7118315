"""Metrics, one file each; see README.md for the table and how to add one."""

from __future__ import annotations

if __name__ != "distillbench.metrics":
    raise ImportError("import distillbench.metrics, not the bare folder name 'metrics'")
