"""Sequences: `ctc_loss` takes four arrays of three shapes, which no row says; see `test_ctc.py`."""

from __future__ import annotations

from tests.laws.case import Case

CASES: list[Case] = []
