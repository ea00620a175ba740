"""Losses between axis-aligned boxes and the coding of boxes; `pairs.py` prepares them.

`losses.py` and `coding.py` have the public functions. `spans.py` is the geometry of two boxes along
each axis, `terms.py` has the terms of the losses and their slopes, and `gradients.py` makes
gradients in the coordinates of those.
"""
