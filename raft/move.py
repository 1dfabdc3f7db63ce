"""Leadership handed over: the chosen server is brought up to date and told to stand at once. [Ongaro14 3.10]

Here: a leader's side, from the command to the word TimeoutNow. Not here: what the chosen one does (`raft.election`),
nor that nothing is proposed meanwhile (`raft.core`).
"""

from __future__ import annotations

from typing import Final

from raft.log import Log
from raft.messages import TimeoutNow
from raft.replication import Replication
from replog.core import Effect, Send
from replog.types import NodeId

MOVE: Final = "move"


class Move:
    """One attempt; it ends with the term, or after an election time-out (HAZARDS R27)."""

    def __init__(self, node: NodeId, log: Log, replication: Replication) -> None:
        self.node = node
        self.told = False
        self._log = log
        self._replication = replication

    def is_ready(self) -> bool:
        """Whether it has the whole log: nobody would vote for less, and nothing is added meanwhile."""
        progress = self._replication.progress.get(self.node)
        return progress is not None and progress.match_index == self._log.last_index

    def advance(self) -> list[Effect]:
        """Tell it, once it is ready. From then on there is no lease in this term: others vote for it at once, however
        late it hears of this. (HAZARDS R25)"""
        if self.told or not self.is_ready():
            return []
        self.told = self._replication.lease_over = True
        return self.tell()

    def tell_now(self) -> list[Effect]:
        """The term ends here: whatever it has, it is to stand."""
        self.told = True
        return self.tell()

    def tell(self) -> list[Effect]:
        """Again, if it was told: the word may be lost."""
        replication = self._replication
        return [Send((self.node,), TimeoutNow(replication.current_term, replication.me))] if self.told else []
