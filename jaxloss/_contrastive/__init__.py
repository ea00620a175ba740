"""Losses of batches of embeddings, and the pairwise functions they are made of.

`batch.py` prepares: examples, labels, and who is whose positive and negative.
`distances.py` and `cosines.py` compute the distances and the cosines of all pairs; `pairwise.py`
makes them public.
`labelled.py` holds the losses of batches with labels, `mining.py` that of triplets found in them,
`views.py` the losses of two views with negatives, and `redundancy.py` those without, whose
features `redundancy.py` prepares itself.
"""
