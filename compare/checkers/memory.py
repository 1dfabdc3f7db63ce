"""Bounded memory: no table or queue of a correct replica or of a client holds more than is stated for it, however many
liars talk to it and however long the run is. Only the simulator measures (`compare.gauges`)."""

from __future__ import annotations

from compare.checkers.agreement import summarise
from compare.checkers.base import Check, Evidence


class Memory:
    name = "bounded-memory"
    summary = "no table or queue of a correct replica or client holds more than is stated for it"
    safety = True

    def judge(self, evidence: Evidence) -> Check:
        """`checked`: tables that were measured."""
        texts = [
            f"{where} held {held.most:,}, it may hold {held.bound:,}"
            for where, held in sorted(evidence.held.items())
            if held.most > held.bound
        ]
        return Check(not texts, len(evidence.held), summarise(texts))
