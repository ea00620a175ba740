"""Losses of one class out of several that have an order; `levels.py` prepares the data.

`thresholds.py` has losses of a score at each threshold between two classes, `distances.py` that of
a score for each class.
"""
