"""equivocating-leader against PBFT: two pre-prepares for one (view, seq), each shown to a side of its own. [CL99 4.2]

A correct backup accepts the first for its (view, seq) and says so to everybody in PREPARE. Only one digest can gather
a quorum, so side B cannot execute its own: it learns the commit certificate of the other, or a view change settles it.

Options: `side_b`, the nodes of that side; `favoured`, the nodes of side A that hear the liar's COMMIT where it lied,
all by default: with only one of them the others have prepared, and the next view must find what this one has executed.
"""

from __future__ import annotations

from compare.attacks.base import Power, voting
from compare.attacks.equivocating_leader import EquivocatingLeader
from pbft.messages import Batch, Commit, Committed, Prepare, PrePrepare
from replog.core import Effect, Send
from replog.quorum import byzantine_quorum
from replog.replica import Replica
from replog.types import Message, NodeId, Request


class EquivocatingPrimary(EquivocatingLeader):
    """Invariant: to side B the liar signs at most one digest for each (view, seq), as pre-prepare and as commit."""

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self._favoured = frozenset(power.options.get("favoured", range(power.n)))
        self._lies: dict[tuple[int, int], PrePrepare] = {}
        self._shown: set[tuple[int, int]] = set()
        self._digests: dict[int, list[bytes]] = {}

    def spare(self) -> int:
        return self.power.n - byzantine_quorum(self.power.n, self.power.f)

    def say(self, effect: Effect) -> list[Effect]:
        if type(effect) is not Send:
            return [effect]
        side_b = tuple(node for node in effect.to if node in self.side_b)
        lie = self._lie(effect.message) if side_b else effect.message
        side_a = tuple(node for node in effect.to if node not in self.side_b)
        if self._tells(effect.message):
            side_a = tuple(node for node in side_a if node in self._favoured)
        said: list[Effect] = [Send(side_a, effect.message)] if side_a else []
        if lie is not None and side_b:
            said.append(Send(side_b, lie))
            if type(lie) is PrePrepare and lie is not effect.message:
                said.append(Send(side_b, self._commit(lie)))
        return said

    def _commit(self, lie: PrePrepare | Commit) -> Commit:
        """A liar waits for nobody's PREPARE: side B shall have its vote before it hears of side A's."""
        signature = self._sign("commit", (lie.view, lie.seq, lie.digest, self.me))
        return Commit(lie.view, lie.seq, lie.digest, self.me, signature)

    def _second(self, message: Message) -> None:
        """In a later view that has taken up a lie, the liar votes for it: for the replica inside it is settled."""
        if type(message) is not Commit or (message.view, message.seq) in self._shown:
            return
        if message.digest in self._digests.get(message.seq, ()):
            self._shown.add((message.view, message.seq))
            others = tuple(node for node in range(self.power.n) if node != self.me)
            self.tell(Send(others, self._commit(message)))

    def _tells(self, message: Message) -> bool:
        """Whether it tells that something was decided at a place of which side B knows otherwise."""
        if type(message) is Commit:
            return (message.view, message.seq) in self._lies
        return type(message) is Committed and (message.proof.view, message.proof.seq) in self._lies

    def _lie(self, message: Message) -> Message | None:
        """What side B gets instead: the same, something else, or nothing."""
        if type(message) is PrePrepare:
            return self._pre_prepare(message)
        if type(message) is Commit and (lie := self._lies.get((message.view, message.seq))) is not None:
            return self._commit(lie)
        if type(message) is Committed and (message.proof.view, message.proof.seq) in self._lies:
            return None
        return message

    def _pre_prepare(self, message: PrePrepare) -> PrePrepare:
        place = (message.view, message.seq)
        if place not in self._lies and place not in self._shown and message.requests:
            self._shown.add(place)
            requests = self.take(message.seq)
            batch = Batch(message.time, requests)
            if requests and batch.digest != message.digest:
                self._digests.setdefault(message.seq, []).append(batch.digest)
                signature = self._sign("pre-prepare", (*place, batch.digest))
                self._lies[place] = PrePrepare(*place, batch.digest, signature, batch.time, batch.raws)
                proposed = self.power.shared.setdefault("proposed", {})
                proposed.update({(node, place): batch.digest for node in self.side_b})
        return self._lies.get(place, message)

    def is_genuine(self, request: Request) -> bool:
        """As the replica inside finds it: under MACs its own entry is all that it can check."""
        return bool(voting(self.inner).requests.verify(request))

    def _sign(self, kind: str, fields: tuple[int | bytes, ...]) -> bytes:
        if not voting(self.inner).notary.transferable:
            return b""
        return self.power.signers[self.me].sign(self.power.domain.statement(kind, fields))

    def on_message(self, sender: NodeId, message: Message) -> bool:
        """A vote for the lie shows that it arrived; the replica inside would take it for a contradiction."""
        self._second(message)
        if sender not in self.side_b or type(message) not in (Prepare, Commit):
            return True
        lie = self._lies.get((message.view, message.seq))  # type: ignore[attr-defined]
        if lie is None or lie.digest != message.digest:  # type: ignore[attr-defined]
            return True
        self.reached(sender, message.seq)  # type: ignore[attr-defined]
        return False
