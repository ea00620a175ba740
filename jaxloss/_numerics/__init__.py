"""Arrays to arrays: nothing here knows of a loss or a mask.

`kinks.py`: functions with a stated derivative. `special.py`, `gamma.py`: special functions.
`exact.py`: what roundings lose. `softmax.py`, `cross_entropy.py`, `shares.py`: softmaxes, losses
of them, and shares of a whole. `order.py`: sorts and ranks. `sharding.py`: arrays sharded as the
data are. `xla.py`: what XLA on CPU compiles to faster programs than the usual form.
"""
