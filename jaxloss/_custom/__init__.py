"""Losses of one's own; a formula becomes a loss, and losses become one.

`formula.py` reads what the user wrote; `loss.py` is what becomes of it; `elementwise.py` and
`over_axis.py` evaluate it; `combine.py` adds losses.
"""
