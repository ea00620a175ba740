"""Arrays to arrays: nothing here knows of a loss or a mask.

`kinks.py`: functions with a stated derivative. `special.py`: special functions. `exact.py`: what
roundings lose. `softmax.py`, `shares.py`: softmaxes and shares of a whole. `xla.py`: what XLA on
CPU compiles to faster programs than the usual form.
"""
