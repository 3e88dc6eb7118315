"""From scores to statements: columns, ranks' errors, paired statistics, claims and their verdicts.

`check.checked_plan` checks tables and claims before anything runs; `stats` has the mathematics.
"""
