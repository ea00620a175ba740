"""Rows of the losses of ensembles and intervals."""

from __future__ import annotations

from tests.laws.case import Case

CASES: list[Case] = []
