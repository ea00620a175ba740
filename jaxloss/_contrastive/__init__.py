"""Losses of batches of embeddings; `batch.py` prepares examples, labels, positives and negatives.

`references.py` prepares other embeddings that anchors meet in place of their batch.

`labelled.py` and `margins.py` hold the losses of batches with labels, `mining.py` that of triplets
found in such a batch, and `views.py` those of two views with negatives. `redundancy.py` holds
those without negatives, and prepares their features. `belonging.py` prepares what belongs together
in two views, if several things do, and `matching.py` computes how surprising it is.

`distances.py` and `cosines.py` compute the distances and the cosines of all pairs, which
`pairwise.py` makes public.
"""
