"""Contrastive."""
