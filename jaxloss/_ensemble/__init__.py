"""Scores of forecasts that are ensembles, intervals or quantiles.

`members.py` prepares the members of ensembles and their targets, `samples.py` has the scores of
ensembles, and `intervals.py` those of intervals.
"""
