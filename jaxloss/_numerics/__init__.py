"""Arrays to arrays: nothing here knows of a loss or a mask.

`kinks.py`: functions with a stated derivative. `special.py`, `gamma.py`: special functions.
`intervals.py`, `normal.py`: log probabilities of intervals.
`exact.py`: what roundings lose. `softmax.py`, `cross_entropy.py`, `shares.py`: softmaxes, losses
of them, and shares of a whole. `order.py`: sorts and ranks. `sharding.py`: arrays sharded as the
data are. `devices.py`, `ring.py`: what several devices compute together. `tiles.py`: tiles of the
logits of linear layers, which `linear_logits.py` computes, of which `linear_softmax.py`,
`linear_sums.py` and `linear_divergence.py` make losses. `xla.py`: what XLA on CPU compiles to
faster programs than the usual form.
"""
