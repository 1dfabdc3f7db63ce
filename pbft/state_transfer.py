"""Fetching the state of a proved checkpoint, part by part, from whoever has it. [CL99 4.4, CL02 partition tree]

The digest comes from the proof first; the executor verifies every part against it and puts the state in place whole or
not at all (HAZARDS P41). Here: which part is asked of whom. Not here: parts and digests (`replog.executor`).

A peer is told what is here of a part and gives what differs. Where that does not lead to the digest, it may be chance
or a lie: another peer is asked, and whoever leads astray more than now and then is asked for whole parts alone, in
which a lie is known for one.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Final

from pbft.messages import CheckpointProof, FetchPart, PartData
from pbft.notary import Notary
from replog.core import Effect, Restore, Send, Wanted, WritePart
from replog.types import NodeId

GONE: Final = "does not hold it"
ASKED_MAX: Final = 16
"""Parts asked for and not yet here, over all peers."""
ASTRAY_MAX: Final = 2
"""Answers to hints that led astray, less those that did not: from so many on a peer gets no hints."""


class StateTransfer:
    """Invariants:
    `target` is a verified proof; nothing is asked for without one
    at most ASKED_MAX parts are asked for at a time, each of one peer; of another one each time, if there is one
    a peer that gave a wrong part is not asked again for this target
    """

    def __init__(self, notary: Notary) -> None:
        self._notary = notary
        self.target: CheckpointProof | None = None
        self.received = 0
        self._wanted: tuple[int, ...] = ()
        self._hints: dict[int, bytes] = {}
        self._asked: dict[int, NodeId] = {}
        self._late: dict[int, NodeId] = {}
        self._writing: deque[tuple[int, NodeId]] = deque()
        self._last: dict[int, NodeId] = {}
        """Of parts that are not here yet: who was asked last."""
        self._useless: dict[NodeId, str] = {}
        self._astray: Counter[NodeId] = Counter()
        self._turn = 0

    @property
    def running(self) -> bool:
        return self.target is not None

    def start(self, proof: CheckpointProof) -> list[Effect]:
        """Begin, or go on if it is the same one (P45)."""
        if self.target != proof:
            self._forget()
            self.target = proof
        return [Restore(proof.seq, proof.digest)]

    def stop(self) -> None:
        """The state is in place; the part written last has ended it and is not asked about any more."""
        self.received += len(self._writing)
        self.target = None
        self._forget()

    def _forget(self) -> None:
        self._wanted = ()
        self._hints = {}
        self._asked.clear()
        self._last.clear()
        self._late.clear()
        self._writing.clear()
        self._useless.clear()
        self._astray.clear()

    def on_wanted(self, event: Wanted) -> list[Effect]:
        """What is still missing, after a start or a part."""
        if self.target is None or event.index != self.target.seq:
            return []
        part, writer = self._writing.popleft() if self._writing else (-1, -1)
        self._wanted, self._hints = event.parts, event.hints
        if not event.refused:
            self._judge(part, writer)
            return self._ask()
        self._useless[writer] = "a part that does not match its digest"
        return [
            *self._notary.refuse(writer, f"state part {part} at {event.index} does not match its digest"),
            *self._ask(),
        ]

    def _judge(self, part: int, writer: NodeId) -> None:
        """A part that was written and not refused is here now, or has led astray."""
        if part in self._wanted:
            self._astray[writer] += 1
        elif part >= 0:
            self.received += 1
            self._last.pop(part, None)
            self._astray[writer] = max(0, self._astray[writer] - 1)

    def on_part(self, sender: NodeId, message: PartData) -> list[Effect]:
        """An answer counts once, from the peer that was asked for that part."""
        if self.target is None or message.seq != self.target.seq or self._asked.get(message.part) != sender:
            return []
        del self._asked[message.part]
        self._late.pop(message.part, None)
        if message.data is None:
            self._useless.setdefault(sender, GONE)
            return self._ask()
        self._writing.append((message.part, sender))
        return [WritePart(message.seq, message.part, message.data)]

    def tick(self) -> list[Effect]:
        """Time passes: what was asked for before the last tick is asked of another peer."""
        for part in sorted(self._late):
            if self._asked.get(part) == self._late[part]:
                del self._asked[part]
        self._late = dict(self._asked)
        return self._ask()

    @property
    def hopeless(self) -> bool:
        """No peer is left to ask for this target."""
        return all(node in self._useless for node in self._notary.others)

    @property
    def outlived(self) -> bool:
        """A peer that was asked does not hold it: the others have gone on to a later checkpoint, or will."""
        return any(why == GONE for why in self._useless.values())

    def retry(self) -> None:
        """Ask those again that did not hold it; peers that gave a wrong part stay out."""
        kept = [(node, why) for node, why in self._useless.items() if why != GONE]
        self._useless = dict(kept) if len(kept) < len(self._notary.others) else {}

    def _ask(self) -> list[Effect]:
        """Missing parts that nobody was asked for, each of the next peer in turn."""
        peers = [node for node in self._notary.others if node not in self._useless]
        effects: list[Effect] = []
        writing = [part for part, _ in self._writing]
        for part in self._wanted if peers and self.target is not None else ():
            if part in self._asked or part in writing:
                continue
            if len(self._asked) >= ASKED_MAX:
                break
            peer = self._asked[part] = self._last[part] = self._next(part, peers)
            hint = self._hints.get(part, b"") if self._astray[peer] < ASTRAY_MAX else b""
            effects.append(Send((peer,), FetchPart(self._goal.seq, part, hint)))
        return effects

    def _next(self, part: int, peers: Sequence[NodeId]) -> NodeId:
        self._turn += 1
        others = [peer for peer in peers if peer != self._last.get(part)] or peers
        return others[self._turn % len(others)]

    @property
    def _goal(self) -> CheckpointProof:
        if self.target is None:
            raise RuntimeError("no transfer is running")
        return self.target

    def check_invariants(self) -> None:
        assert len(self._asked) <= ASKED_MAX, "parts asked for are bounded"
        assert self.target is not None or not self._asked, "nothing is asked for without a target"
