"""Checkpoints: votes on the state's digest, and the proof that lets the log be cut. [CL99 4.3]

Here: which digests were said and which are proved. Not here: the state (the executor's), fetching it
(`pbft.state_transfer`), cutting the log (`pbft.core`).
"""

from __future__ import annotations

from pbft.messages import GENESIS, Checkpoint, CheckpointProof
from pbft.notary import Notary
from pbft.slots import Tally
from replog.core import Effect, Send
from replog.types import Digest, NodeId


class Checkpoints:
    """Invariants:
    stable.seq <= proven.seq; each was verified, and this replica has executed up to `stable`
    `own` and `votes` hold multiples of checkpoint_interval above the stable one, within the log window
    """

    def __init__(self, notary: Notary) -> None:
        self._notary = notary
        self.stable: CheckpointProof = GENESIS
        """The low watermark: this replica has the state, the log up to here is discarded."""
        self.proven: CheckpointProof = GENESIS
        """The highest one that is proved. Beyond `stable` while this replica lags behind."""
        self.own: dict[int, Digest] = {}
        self.votes: dict[int, Tally] = {}

    def on_own(self, seq: int, digest: Digest) -> list[Effect]:
        """This replica's state after `seq`: say it, and count it."""
        self.own[seq] = digest
        signature = self._notary.sign("checkpoint", (seq, digest, self._notary.me))
        message = Checkpoint(seq, digest, self._notary.me, signature)
        if seq > self.proven.seq:
            self.votes.setdefault(seq, Tally()).good.add(self._notary.me, digest, signature)
            self._prove(seq, digest)
        return [Send(self._notary.others, message)]

    def on_vote(self, message: Checkpoint) -> list[Effect]:
        """A vote within the window. Nobody is believed to be further than a quorum says (P42, P43)."""
        seq, voter = message.seq, message.replica
        if seq % self._notary.checkpoint_interval:
            return self._notary.refuse(voter, f"checkpoint: seq {seq} is no multiple of checkpoint_interval")
        if not self.proven.seq < seq <= self.proven.seq + self._notary.log_window:
            return []
        tally = self.votes.setdefault(seq, Tally())
        earlier = tally.said(voter)
        if earlier is not None and earlier[0] != message.digest:
            return self._contradicts(message, earlier)
        if voter not in tally.good:
            tally.held[voter] = (message.digest, message.signature)
        return self._prove(seq, message.digest)

    def _contradicts(self, message: Checkpoint, earlier: tuple[Digest, bytes]) -> list[Effect]:
        seq, voter = message.seq, message.replica
        if not self._check(seq, message.digest, voter, message.signature):
            return self._notary.refuse(voter, "bad signature of checkpoint")
        if not self._check(seq, earlier[0], voter, earlier[1]):
            self.votes[seq].held[voter] = (message.digest, message.signature)
            return []
        first = Checkpoint(seq, earlier[0], voter, earlier[1])
        return self._notary.accuse(voter, "two-checkpoints", seq, first, message)

    def _prove(self, seq: int, digest: Digest) -> list[Effect]:
        """2f+1 of different replicas with one digest are the proof; checked once so many came. [CL99 4.3]"""
        tally, quorum = self.votes[seq], self._notary.quorum
        if tally.possible(digest) < quorum:
            return []
        bad = tally.settle(digest, quorum, lambda voter, signature: self._check(seq, digest, voter, signature))
        if tally.good.count(digest) >= quorum:
            self.learn(CheckpointProof(seq, digest, tally.votes(digest, quorum)))
        return [note for voter in bad for note in self._notary.refuse(voter, "bad signature of checkpoint")]

    def _check(self, seq: int, digest: Digest, voter: NodeId, signature: bytes) -> bool:
        return self._notary.check(voter, "checkpoint", (seq, digest, voter), signature)

    def learn(self, proof: CheckpointProof) -> None:
        """A verified proof, from whatever source."""
        if proof.seq > self.proven.seq:
            self.proven = proof
            self._drop()

    def adopt(self, proof: CheckpointProof) -> None:
        """This replica has executed up to `proof`, or has been given the state there."""
        self.learn(proof)
        self.stable = proof
        self._drop()

    def _drop(self) -> None:
        for seq in [seq for seq in self.votes if seq <= self.proven.seq]:
            del self.votes[seq]
        for seq in [seq for seq in self.own if seq < self.stable.seq]:
            del self.own[seq]

    def reached(self, executed: int) -> CheckpointProof | None:
        """The proved checkpoint that this replica can now stand on, if there is one beyond the stable one."""
        if self.stable.seq < self.proven.seq <= executed and self.own.get(self.proven.seq) == self.proven.digest:
            return self.proven
        return None

    def diverged(self) -> bool:
        """This replica's own state is not what a quorum has: a fault here. The proved state must replace it."""
        digest = self.own.get(self.proven.seq)
        return digest is not None and digest != self.proven.digest

    def restored(self, proof: CheckpointProof) -> None:
        """The state became the one of `proof`: that digest is the own one now, later ones were of another state."""
        self.own = {seq: digest for seq, digest in self.own.items() if seq < proof.seq}
        self.own[proof.seq] = proof.digest

    def own_votes(self, stable: int) -> list[Checkpoint]:
        """What this replica has said about seqs beyond `stable` that are not proved yet, to say it again."""
        votes = []
        for seq in sorted(self.votes):
            said = self.votes[seq].good.get(self._notary.me)
            if seq > stable and said is not None:
                votes.append(Checkpoint(seq, said[0], self._notary.me, said[1]))
        return votes

    def check_invariants(self) -> None:
        window = self._notary.log_window
        assert self.stable.seq <= self.proven.seq, "stable <= proven"
        assert all(self.proven.seq < seq <= self.proven.seq + window for seq in self.votes), "votes within the window"
        assert len(self.own) <= 2 + window // self._notary.checkpoint_interval, "own checkpoints are bounded"
