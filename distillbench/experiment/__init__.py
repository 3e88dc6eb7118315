"""The experiment file: its models (`schema`), its expansion into points, its selections.

`load.load_experiment` reads a file; `select` is the one language of where, claims and --only.
"""
