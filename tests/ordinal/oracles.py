"""Exact forms of the losses of ordered classes, in mpmath."""
