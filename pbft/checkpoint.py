"""Checkpoints: votes on the state's digest, and the proof that lets the log be cut. [CL99 4.3]

Here: which digests were said and which are proved. Not here: the state (the executor's), fetching it
(`pbft.state_transfer`), cutting the log (`pbft.core`).
"""

from __future__ import annotations

from pbft.claims import Claims
from pbft.messages import Checkpoint, CheckpointProof, Claim, Vote
from pbft.notary import Notary
from pbft.slots import Tally
from replog.core import Effect, Send
from replog.types import Digest, Message, NodeId


class Checkpoints:
    """Invariants:
    stable.seq <= certified.seq <= proven.seq; each was verified, and this replica has executed up to `stable`
    `own` and `votes` hold multiples of checkpoint_interval above the stable one, within the log window
    """

    def __init__(self, notary: Notary) -> None:
        self._notary = notary
        self.stable: CheckpointProof = notary.base
        """The low watermark: this replica has the state, the log up to here is discarded."""
        self.proven: CheckpointProof = notary.base
        """The highest one whose digest is proved: its state may be fetched. Beyond `stable` while this replica lags."""
        self.certified: CheckpointProof = notary.base
        """The highest one that a quorum vouches for: once this replica has that state, the log may be cut there."""
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
        return [Send(self._notary.others, message), *self._notary.witness.stated(message)]

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
            return []  # the first one stays, and the witness has both
        if voter not in tally.good:
            tally.held[voter] = (message.digest, message.signature)
        return self._prove(seq, message.digest)

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
        if proof.seq > self.certified.seq and self.is_certain(proof):
            self.certified = proof
        self._drop()

    def is_certain(self, proof: CheckpointProof) -> bool:
        """Whether a quorum vouches for it, so that a quorum's view-changes can show it. [CL99 4.3]"""
        return len(proof.votes) >= self._notary.quorum or proof == self._notary.base

    def adopt(self, proof: CheckpointProof) -> None:
        """This replica has executed up to `proof`, or has been given the state there; a quorum vouches for it."""
        self.learn(proof)
        if proof.seq > self.certified.seq:
            self.certified = proof
        self.stable = proof
        self._drop()

    def _drop(self) -> None:
        for seq in [seq for seq in self.votes if seq <= self.proven.seq]:
            del self.votes[seq]
        for seq in [seq for seq in self.own if seq < self.stable.seq]:
            del self.own[seq]

    def reached(self, executed: int) -> CheckpointProof | None:
        """The proved checkpoint that this replica can now stand on, if there is one beyond the stable one."""
        proof = self.certified
        return proof if self.stable.seq < proof.seq <= executed and self.own.get(proof.seq) == proof.digest else None

    def diverged(self) -> bool:
        """This replica's own state is not what a quorum has: a fault here. The proved state must replace it."""
        digest = self.own.get(self.proven.seq)
        return digest is not None and digest != self.proven.digest

    def differing(self) -> tuple[NodeId, ...]:
        """Those that say another digest than this replica, once one of them must be correct: the fault is here, or the
        application is not deterministic and no two are alike. Their own word: for an operator, nothing rests on it."""
        if self.diverged():
            return tuple(vote.replica for vote in self.proven.votes)
        for seq, digest in sorted(self.own.items()):
            others = tuple(node for node, said in self._said(seq) if said != digest)
            if len(others) >= self._notary.weak_quorum:
                return others
        return ()

    def _said(self, seq: int) -> list[tuple[NodeId, Digest]]:
        tally = self.votes.get(seq, Tally())
        votes = ((node, tally.said(node)) for node in self._notary.others)
        return [(node, vote[0]) for node, vote in votes if vote is not None]

    def restored(self, proof: CheckpointProof) -> None:
        """The state became the one of `proof`: that digest is the own one now, later ones were of another state."""
        self.own = {seq: digest for seq, digest in self.own.items() if seq < proof.seq}
        self.own[proof.seq] = proof.digest

    def distrust(self, highest: int) -> int:
        """Keep the proofs that stand: none beyond `highest`, and, where certificates prove anything, none with a flaw.
        How many were dropped. [CL02 proactive recovery]"""
        before = (self.stable, self.certified, self.proven)
        self.stable = self.stable if self._stands(self.stable, highest) else self._notary.base
        self.certified = self.certified if self._stands(self.certified, highest) else self.stable
        self.proven = self.proven if self._stands(self.proven, highest) else self.certified
        self.votes.clear()
        after = (self.stable, self.certified, self.proven)
        return sum(one is not other for one, other in zip(before, after, strict=True))

    def _stands(self, proof: CheckpointProof, highest: int) -> bool:
        return proof.seq <= highest and not (self._notary.transferable and self._notary.flaw_in_checkpoint(proof))

    def corrected(self, seq: int, digest: Digest) -> None:
        """The digest of the own state after `seq`, computed anew: what was said of it before may have been wrong."""
        if seq in self.own or seq == self.stable.seq != 0:
            self.own[seq] = digest

    def words(self, stable: int) -> list[Message]:
        """For a peer whose stable checkpoint is `stable`: the highest proof, and what this replica has said about seqs
        that are not proved yet."""
        words: list[Message] = [self.proven] if stable < self.proven.seq else []
        for seq in sorted(self.votes):
            said = self.votes[seq].good.get(self._notary.me)
            if seq > stable and said is not None:
                words.append(Checkpoint(seq, said[0], self._notary.me, said[1]))
        return words

    def check_invariants(self) -> None:
        window = self._notary.log_window
        assert self.stable.seq <= self.certified.seq <= self.proven.seq, "stable <= certified <= proven"
        assert all(self.proven.seq < seq <= self.proven.seq + window for seq in self.votes), "votes within the window"
        assert len(self.own) <= 2 + window // self._notary.checkpoint_interval, "own checkpoints are bounded"


class ClaimedCheckpoints(Checkpoints):
    """Under MACs: nobody can show what a third has said, so every replica repeats its own word.

    A weak quorum's word proves the digest: a correct replica has that state, and it can be fetched. Only a quorum's
    word lets the log be cut: then enough correct replicas can tell a new view of it. [CL02 MACs, state transfer]
    """

    def __init__(self, notary: Notary) -> None:
        super().__init__(notary)
        # As many as a window holds: none of this replica's own is forgotten before it is stable.
        self._claims: Claims[int, Digest] = Claims(2 + notary.log_window // notary.checkpoint_interval)

    def on_own(self, seq: int, digest: Digest) -> list[Effect]:
        self.own[seq] = digest
        self._claim(self._notary.me, seq, digest)
        return [Send(self._notary.others, Checkpoint(seq, digest, self._notary.me, b""))]

    def on_vote(self, message: Checkpoint) -> list[Effect]:
        """A replica's word about its own state, however far ahead: one alone moves nothing (P42, P43)."""
        if message.seq % self._notary.checkpoint_interval or message.seq == 0:
            rule = f"checkpoint: seq {message.seq} is no multiple of checkpoint_interval"
            return self._notary.refuse(message.replica, rule)
        if message.seq > self.stable.seq:
            self._claim(message.replica, message.seq, message.digest)
        return []

    def _claim(self, sender: NodeId, seq: int, digest: Digest) -> None:
        claimants = self._claims.add(sender, seq, digest)
        if len(claimants) >= self._notary.weak_quorum:
            self.learn(CheckpointProof(seq, digest, [Vote(node, b"") for node in claimants]))

    def _said(self, seq: int) -> list[tuple[NodeId, Digest]]:
        return self._claims.of(seq)

    def restored(self, proof: CheckpointProof) -> None:
        super().restored(proof)
        self._claim(self._notary.me, proof.seq, proof.digest)

    def held(self) -> list[Claim]:
        """C of a view-change: what this replica has, from its stable checkpoint on. [CL02 view changes]"""
        later = [Claim(seq, digest) for seq, digest in sorted(self.own.items()) if seq > self.stable.seq]
        return [Claim(self.stable.seq, self.stable.digest), *later]

    def words(self, stable: int) -> list[Message]:
        me = self._notary.me
        return [Checkpoint(claim.seq, claim.digest, me, b"") for claim in self.held() if claim.seq > stable]

    def check_invariants(self) -> None:
        super().check_invariants()
        self._claims.check_invariants()
