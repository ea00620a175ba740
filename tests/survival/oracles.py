"""Exact forms of the losses of times to events, in mpmath."""
