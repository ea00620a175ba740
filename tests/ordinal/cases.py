"""Rows of the losses of ordered classes."""

from __future__ import annotations

from tests.laws.case import Case

CASES: list[Case] = []
