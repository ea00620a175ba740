"""Rows of the losses of policies and values."""

from __future__ import annotations

from tests.laws.case import Case

CASES: list[Case] = []
