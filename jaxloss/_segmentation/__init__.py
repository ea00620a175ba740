"""Losses of images and label maps; `images.py` prepares them.

`overlap.py` has the losses of soft overlap, Dice, Tversky and Jaccard; `lovasz.py` the Lovász
extensions of the Jaccard loss.
"""
