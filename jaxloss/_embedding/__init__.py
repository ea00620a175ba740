"""Losses of the angle or the distance between vectors; `vectors.py` prepares them.

`angles.py` and `distance.py` are the geometry. `cosine.py` has the losses of two vectors,
`pairs.py` those of labelled pairs, `triplet.py` those of an anchor, a positive and a negative.
"""
