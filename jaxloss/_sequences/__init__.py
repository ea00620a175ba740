"""Losses of sequences. Those of labels without times have their door in `batch.py`.

* `ctc.py` and `alignment.py`: labels of which a frame has at most one;
* `rnnt.py` and `lattice.py`: labels of which a frame may have several;
* `crf.py` and `chain.py`: a label for each frame, which depends on that before it;
* `soft_dtw.py` and `warping.py`: two sequences of numbers, of which one runs faster;
* `diagonals.py`: grids whose cells depend on those before them;
* `scaled.py`: numbers beyond the range of floats, in which the recursions count.
"""
