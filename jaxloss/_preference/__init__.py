"""Losses of comparisons and judgements of answers, which are elementwise.

`losses.py` has the losses, each with its own arguments; `logistic.py` the functions of differences
of log-probabilities that they are made of.
"""
