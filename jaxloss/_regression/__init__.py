"""Losses of real predictions against real targets; `errors.py` prepares them.

`simple.py`: L1, L2, Huber and their like. `relative.py`: errors in percent and of logarithms.
`robust.py`: losses that let outliers go. `general.py`: Barron's loss, of which those are cases.
`asymmetric.py`: quantiles, expectiles, tubes.
"""
