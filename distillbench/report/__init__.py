"""Tables, figures and pages: `tables` builds them, `table.rank` decides what is bold.

`tex`, `writers` and `html` render; `notes` says under a table what its numbers are of.
"""
