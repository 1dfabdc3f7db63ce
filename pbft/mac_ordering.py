"""The window of slots under MACs. [CL02 view changes]"""

from __future__ import annotations

from pbft.ordering import Ordering


class MacOrdering(Ordering):
    """A view-change says P and Q of everything above h, the stable checkpoint: silence means that nothing was prepared
    there. So no slot above it goes, whatever is proved, and the window ends two windows beyond it (P3)."""

    @property
    def useless(self) -> int:
        return self.low

    def _end(self, stable: int) -> int:
        return min(super()._end(stable), self.low + 2 * self._notary.log_window)
