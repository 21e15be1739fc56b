"""Comparisons: a grid of searches, planned, run where there is room, and read together.

`cells` says what has to run and what is done, `launch` runs it, `record` keeps it, `table` and `figures` read it.
"""
