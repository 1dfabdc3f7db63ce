"""Random schedules over changes of the members: whatever `chance` does, and epochs that begin and end meanwhile,
replicas that ask for views alone, refreshes, and liars who act together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pbft import PbftCore
from pbft import messages as m
from pbft.epochs import FREE
from pbft.messages import MESSAGES, InEpoch
from pbft.notary import Notary
from replog.core import Command, Effect, Event
from replog.membership import removable
from tests.pbft.chance import Chance, Liar
from tests.pbft.changing import ROOM, Changing, inner
from tests.pbft.harness import EPOCH_US, SECOND, Cluster, Packet


class EpochLiar(Liar):
    """In whatever epoch it is."""

    cluster: Changing

    @property
    def notary(self) -> Notary:
        return self.cluster.plug(self.node).notary

    def read(self, packet: Packet) -> Any:
        return inner(packet.message)

    def _packet(self, to: int, message: Any) -> Packet:
        return Packet(self.node, to, MESSAGES.encode(worn(self.cluster.plug(self.node).epoch, message)))


def worn(epoch: int, message: Any) -> Any:
    """As it travels in that epoch."""
    return InEpoch(epoch, message) if epoch and not isinstance(message, FREE) else message


class Forking(Changing):
    """More than f may lie: that nothing is prepared against what is decided holds no more, promises do."""

    def step(self, node: int, event: Event) -> list[Effect]:
        replica = self.servers[node].replica
        effects = replica.step(self.now, event)
        self.watch(node, effects)
        self.carry_out(node, effects)
        return effects


class Turning(Chance):
    """What correct replicas do here may happen to them: a time-out that is theirs alone, a command, a crash. `quiet`:
    nothing is lost and nobody crashes, so that epochs are short, and what one does alone stays its own."""

    liar_type = EpochLiar
    cluster: Changing

    def __init__(self, seed: int, quiet: bool = False, **how: Any) -> None:
        super().__init__(seed, refreshes=True, **how)
        self.quiet = quiet

    def make(self, n: int, options: dict[str, Any], cores: Any, signatures: str, core: Any) -> Cluster:
        kind = core if core is not None else PbftCore
        return Forking(n, {**options, "refresh": True, "refresh_timeout_us": 3 * SECOND}, cores, core=kind)

    def acts(self) -> list[tuple[Callable[[], None], float]]:
        if self.quiet:
            plots = [(self.lure, 2.0), (self.conspire, 1.0), (self.usher, 1.0)] if self.liars else []
            return [(self.drift, 1.0), (self.submit, 2.0), (self.rest, 2.0), (self.step_down, 0.5), *plots]
        together = 2.0 if self.liars else 0.0
        more = [(self.change, 1), (self.ask_alone, 0.6), (self.step_down, 0.1), (self.save, 1), (self.rest, 0.6)]
        return [
            *super().acts(),
            *more,
            (self.conspire, together),
            (self.usher, together / 4),
            (self.lure, together / 4),
            (self.drift, 0.3),
        ]

    def rest(self) -> None:
        """All works for a moment, so that epochs end and refreshes too."""
        self.cluster.heal()
        self.cluster.run(SECOND // 4)

    @property
    def epochs(self) -> int:
        return max(plug.epoch for plug in map(self.cluster.plug, self.cluster.servers))

    def voting(self) -> list[int]:
        """Correct ones that are members now, in their own eyes."""
        return [node for node in self.correct if node in self.cluster.servers and self._core(node) is not None]

    def _core(self, node: int) -> PbftCore | None:
        core = self.cluster.plug(node).core
        return core if isinstance(core, PbftCore) else None

    # ------------------------------------------------------------------------------------------------------ the members

    def change(self) -> None:
        """One comes, or one goes, or both."""
        if not self.cluster.servers:
            return
        present = self.cluster.present()
        joins = self.cluster.n < ROOM and self.rng.random() < 0.7
        leaves = self.rng.sample(present.ids, min(removable(present, present.f), self.rng.randint(0, 1)))
        if present.n + joins - len(leaves) <= 3 * present.f:
            leaves = []
        added = [self.cluster.n] if joins else []
        for node in added:
            self.cluster.add(node)
            self.correct.append(node)
        if added or leaves:
            self.cluster.change(add=added, remove=leaves)

    def ask_alone(self) -> None:
        """A time-out of one replica, more often of one that has a bad line."""
        if not self.voting():
            return
        lonely = self.correct[0] if self.correct[0] in self.voting() and self.rng.random() < 0.7 else None
        node = self.rng.choice(self.voting()) if lonely is None else lonely
        core = self.cluster.core(node)
        if core.ordering.active:
            self.cluster.carry_out(node, self.cluster.plug(node)._dressed(core._ask_for(core.view + 1, "alone")))

    def drift(self) -> None:
        """One times out alone while the members change, again in the next epoch, and is refreshed then."""
        node = self.correct[0]
        for _ in range(2):
            if node not in self.voting():
                return
            self.cluster.heal()
            self.change()
            self.ask_alone()
            self.cluster.run(SECOND)
        self.ask_alone()
        if node in self.cluster.servers:
            self.cluster.step(node, Command("refresh", {}))

    def step_down(self) -> None:
        for node in self.voting():
            if self.cluster.core(node).ordering.leads:
                self.cluster.step(node, Command("step-down", {}))

    def save(self) -> None:
        for node in self.cluster.servers:
            self.cluster.save(node)

    # ----------------------------------------------------------------------------------------------- liars act together

    def conspire(self) -> None:
        """The primary of somebody's view and its friends make some prepare a batch, perhaps decide it, at any place in
        the window, which the highest true proof may have opened further."""
        if not self.voting():
            return
        core = min(
            (self.cluster.core(node) for node in self.voting()), key=lambda one: (one.executed, self.rng.random())
        )
        view, epoch, primary = core.view, core.setup.domain.epoch, core.primary
        others = [other for other in map(self.cluster.core, self.voting()) if other.setup.domain.epoch == epoch]
        proof = max((other.checkpoints.proven for other in others), key=lambda one: one.seq)
        high = max(core.ordering.high, proof.seq + core.options.log_window)
        ends = next((other.ends for other in others if other.ends is not None), core.ordering.low)
        seq = self.rng.randint((ends if ends < high else core.ordering.low) + 1, high)
        if primary not in self.liars or not self.cluster.requests:
            return
        batch = m.Batch(EPOCH_US + self.cluster.now, [self.rng.choice(list(self.cluster.requests.values()))])
        words = [proof, self._pre_prepare(core, primary, view, seq, batch)]
        for kind, message in (("prepare", m.Prepare), ("commit", m.Commit)):
            friends = [node for node in self.liars if node != primary or kind == "commit"]
            signed = [(node, self._signed(core, node, kind, (view, seq, batch.digest, node))) for node in friends]
            words += [message(view, seq, batch.digest, node, signature) for node, signature in signed]
        for to in self.rng.sample(core.setup.members, self.rng.randint(1, len(core.setup.members))):
            for word in words[: self.rng.choice((len(words), len(words) - len(self.liars)))]:
                self.cluster.inject(getattr(word, "replica", primary), to, worn(epoch, word))

    def lure(self) -> None:
        """One is cut off while the members change, and hears the liars first."""
        if self.voting():
            self.cluster.isolate(self.rng.choice(self.voting()))
            self.change()
            self.cluster.run(SECOND // 2)
            self.conspire()
            self.cluster.settle()
            self.cluster.heal()

    def _signed(self, core: PbftCore, node: int, kind: str, fields: Any) -> bytes:
        return bytes(self.cluster.signers[node].sign(core.setup.domain.statement(kind, fields)))

    def _pre_prepare(self, core: PbftCore, primary: int, view: int, seq: int, batch: m.Batch) -> m.PrePrepare:
        signature = self._signed(core, primary, "pre-prepare", (view, seq, batch.digest))
        return m.PrePrepare(view, seq, batch.digest, signature, batch.time, batch.raws)

    def usher(self) -> None:
        """All liars ask for the view after the one that some correct replica is in."""
        if not self.voting():
            return
        view = self.cluster.core(self.rng.choice(self.voting())).view + 1
        for node in self.liars:
            core = self._core(node) if node in self.cluster.servers else None
            if core is not None and core.view < view:
                self.cluster.carry_out(node, self.cluster.plug(node)._dressed(core._ask_for(view, "a plot")))
