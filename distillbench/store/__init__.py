"""Finished work on disk. `layout.Store.commit` is the moment from which a stage counts as done.

`record` is its sealed marker, `lease` keeps two processes from one stage.
"""
