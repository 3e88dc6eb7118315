"""Distillation methods, one file each; see README.md for the table and how to add one."""

from __future__ import annotations

if __name__ != "distillbench.methods":
    raise ImportError("import distillbench.methods, not the bare folder name 'methods'")
