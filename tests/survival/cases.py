"""Rows of the losses of times to events."""

from __future__ import annotations

from tests.laws.case import Case

CASES: list[Case] = []
