"""Cores without one defence each, by which an attack of the catalogue shows that it works."""

from __future__ import annotations

from typing import Any

from compare.mutants import pbft_by_chance as chance
from compare.mutants.base import MutantSpec
from pbft import SPEC
from pbft.core import PbftCore
from pbft.messages import NewView
from pbft.patience import Patience
from replog.core import Effect
from replog.types import NodeId


class WaitsForEver(Patience):
    """For a NEW-VIEW."""

    def await_new_view(self, now: int, view: int, hopeless: bool) -> list[Effect]:
        self.awaited, self.armed_at = view, now
        return []


class FromItsPrimaryAlone(PbftCore):
    """A NEW-VIEW that others pass on is not heard."""

    def _on_new_view(self, sender: NodeId, message: NewView) -> list[Effect]:
        return super()._on_new_view(sender, message) if sender == self.notary.primary(message.view) else []


def without(*changes: type[Any]) -> MutantSpec:
    return MutantSpec(SPEC, chance.broken(*changes))


DEFENCES = {
    "wrong-digest": ("P18: hashes no body", without(chance._TrustsDigests)),
    "skip-number": ("P37: waits for the primary for ever", without(chance._NeverGivesUp)),
    "exhaust-numbers": ("P37: waits for the primary for ever", without(chance._NeverGivesUp)),
    "starve-client": ("P37: waits for the primary for ever", without(chance._NeverGivesUp)),
    "invent-request": ("P35: asks no client's signature", without(chance._TrustsRequests)),
    "backups-only": ("P35: asks no client's signature", without(chance._TrustsRequests)),
    "false-null": ("P4: takes any NEW-VIEW", without(chance._TakesAnyNewView)),
    "forged-prepared": ("P1: takes any VIEW-CHANGE", without(chance._TakesAnyViewChange)),
    "partial-new-view": ("P10: waits for a NEW-VIEW for ever", without(WaitsForEver, FromItsPrimaryAlone)),
    "view-jump": ("P11: joins one complaint", without(chance._JoinsAtOne)),
}
"""Scenario -> what the core lacks under which it fails."""
