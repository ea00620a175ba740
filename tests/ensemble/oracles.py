"""Exact forms of the losses of ensembles and intervals, in mpmath."""
