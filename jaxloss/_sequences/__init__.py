"""Losses of sequences of labels; `ctc.py` prepares a batch of them and holds the public functions.

* `alignment.py`: the recursions over frames, which sum over all paths that spell the labels;
* `scaled.py`: numbers beyond the range of floats, in which the recursions count.
"""
