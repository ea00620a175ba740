"""Losses of images and label maps; `images.py` prepares them.

`overlap.py` has the losses of soft overlap, Dice, Tversky and Jaccard; `generalized.py` the Dice
losses of all classes together; `correlation.py` the Matthews correlation; `lovasz.py` the Lovász
extensions of the Jaccard loss. `classes.py` has the sums and means over classes that all but the
last share.
"""
