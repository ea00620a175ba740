"""Losses of times to events, some of which are only known to be later than a time.

`cohort.py` prepares the examples of a cohort, who are at risk together: `cox.py` compares each that
has an event with those at risk, and `pairs.py` each with those who survived it. `intervals.py` is
of times in intervals, and `accelerated.py` of times themselves. `sums.py` has the sums of
exponentials that these likelihoods are made of.
"""
