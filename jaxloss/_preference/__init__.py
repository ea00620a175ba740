"""Losses of comparisons and judgements of answers, which are elementwise.

`losses.py` has the losses, each with its own arguments, and `dpo.py` the one of many kinds;
`logistic.py` has the functions of differences of log-probabilities that they are made of,
`scores.py` those of divergences, `odds.py` those of odds.
"""
