"""One sequence number: the votes, certificates and bodies that this replica has seen for it. [CL99 4.2]

Not here: the window of slots and what follows from a vote (`pbft.ordering`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pbft.messages import Batch, CommitProof, PreparedProof, Vote
from replog.quorum import VoteSet
from replog.types import Digest, NodeId

BODIES_MAX: Final = 8
"""Bodies kept for one seq: those voted for in the last views. One that was prepared elsewhere may be chosen again."""


class Tally:
    """The votes of one phase for one (view, seq), at most one a replica.

    A vote is held until it is needed, then its signature is checked: votes beyond the quorum never are, unless they
    contradict (HAZARDS P7, P17).

    Invariants:
      a replica's vote is in `good` or in `held`, not in both, and what is in `good` is never replaced
      every vote in `good` was verified
    """

    __slots__ = ("good", "held")

    def __init__(self) -> None:
        self.good: VoteSet[Digest, bytes] = VoteSet()
        self.held: dict[NodeId, tuple[Digest, bytes]] = {}

    def said(self, voter: NodeId) -> tuple[Digest, bytes] | None:
        return self.good.get(voter) or self.held.get(voter)

    def possible(self, digest: Digest) -> int:
        """How many votes there would be for `digest` if all that are held were good."""
        return self.good.count(digest) + sum(1 for held, _ in self.held.values() if held == digest)

    def settle(self, digest: Digest, needed: int, check: Callable[[NodeId, bytes], bool]) -> list[NodeId]:
        """Verify held votes for `digest` until `needed` are good. Gives the replicas whose signature is bad."""
        bad: list[NodeId] = []
        for voter in sorted(self.held):
            if self.good.count(digest) >= needed:
                break
            said, signature = self.held[voter]
            if said != digest:
                continue
            del self.held[voter]
            if check(voter, signature):
                self.good.add(voter, digest, signature)
            else:
                bad.append(voter)
        return bad

    def votes(self, digest: Digest, count: int) -> list[Vote]:
        """`count` good votes as a certificate lists them."""
        return [Vote(voter, signature) for voter, signature in self.good.witnesses(digest)[:count]]


class Slot:
    """One sequence number.

    Invariants:
      `digest`, `signature` and both tallies belong to the present view; `digest` is never replaced by another in it
      `prepared` is the certificate of the highest view in which this replica prepared         [CL99 4.4]
      `committed`, once there, stands: no later one has another digest                         [CL99 4.5.1]
      an own COMMIT was sent in this view only if `prepared` is of this view                   (HAZARDS P25)
      `voted` has the highest view in which this replica proposed or accepted a digest with its body   [CL02 Q]
      what is `prepared` was voted for in that view or a later one, and is among `voted`       [CL02 P, Q]
    """

    __slots__ = (
        "seq",
        "digest",
        "signature",
        "prepares",
        "commits",
        "prepared",
        "voted",
        "committed",
        "bodies",
        "holders",
        "asked",
    )

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.prepared: PreparedProof | None = None
        self.voted: dict[Digest, int] = {}
        self.committed: CommitProof | None = None
        self.bodies: dict[Digest, Batch] = {}
        self.asked = 0
        self.holders: list[NodeId] = []
        self.begin_view()

    def begin_view(self) -> None:
        self.digest: Digest | None = None
        self.signature = b""
        self.prepares = Tally()
        self.commits = Tally()

    def vote(self, digest: Digest, view: int) -> None:
        """This replica says in `view` that `digest` belongs here; it has the body."""
        self.voted[digest] = max(view, self.voted.get(digest, 0))
        if len(self.voted) > BODIES_MAX:
            prepared = self.prepared.digest if self.prepared is not None else None
            others = [voted for voted in self.voted if voted != prepared]
            del self.voted[min(others, key=lambda voted: (self.voted[voted], voted))]

    @property
    def body(self) -> Batch | None:
        """The body of what is accepted in this view."""
        return None if self.digest is None else self.bodies.get(self.digest)

    @property
    def decided(self) -> Batch | None:
        """The batch to execute, once its commit certificate and its body are here."""
        return None if self.committed is None else self.bodies.get(self.committed.digest)

    def keep(self, batch: Batch) -> None:
        self.bodies[batch.digest] = batch
        if len(self.bodies) > BODIES_MAX:
            needed = {self.digest, self.committed and self.committed.digest, self.prepared and self.prepared.digest}
            del self.bodies[next(digest for digest in self.bodies if digest not in needed)]

    def lacking(self) -> list[tuple[Digest, list[NodeId]]]:
        """Digests of bodies that are needed to go on, each with the replicas that said they have it. [CL99 4.4]"""
        wanted = []
        if self.committed is not None and self.committed.digest not in self.bodies:
            wanted.append((self.committed.digest, [vote.replica for vote in self.committed.votes]))
        if self.digest is not None and self.digest not in self.bodies:
            wanted.append((self.digest, self.holders))
        return wanted
