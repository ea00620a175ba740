"""Exact forms of the losses of policies and values, in mpmath."""
