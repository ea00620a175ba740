"""Losses of yes-or-no questions; `labels.py` prepares their scores and labels.

`margin.py` has the losses of the margin between a score and 0, `cross_entropy.py` those of logits
and of probabilities, `focal.py` cross-entropies that count easy examples less. `multilabel.py` has
the losses of all classes of an example at once, and prepares those itself.
"""
