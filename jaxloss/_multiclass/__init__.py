"""Multiclass."""
