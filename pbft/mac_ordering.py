"""The window of slots under MACs. [CL02 view changes]"""

from __future__ import annotations

from pbft.messages import Voted
from pbft.ordering import Ordering
from replog.types import Message


class MacOrdering(Ordering):
    """A view-change says P and Q of everything above h, the stable checkpoint: silence means that nothing was prepared
    there. So no slot above it goes, whatever is proved, and the window ends two windows beyond it (P3)."""

    def hard_state(self) -> list[Message]:
        """Votes for what earlier views proposed again: their NEW-VIEWs go with the cut."""
        places = self.places()
        return [Voted(places)] if places else []

    def recall(self, record: Message) -> None:
        if type(record) is not Voted:
            super().recall(record)
            return
        for place in record.places:
            self.recalled(place.seq).vote(place.digest, place.view)

    @property
    def useless(self) -> int:
        return self.low

    def _end(self, stable: int) -> int:
        return min(super()._end(stable), self.low + 2 * self._notary.log_window)
