"""random-liar: says what its honest replica says, but left out, late, again, otherwise, to some and not to others, what
was never said at all, and what others say, otherwise and in their name; every kind of message, validly signed as far as
its own key goes.

How much it lies, and in which ways mostly, differs from seed to seed. A coalition shares what it has heard, and what
its members proposed to whom, so that its votes can stand by the lie.

Here: what is done to messages. Not here: values (`random_words`), signatures of a protocol (`random_pbft`).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from msgspec.structs import replace

from compare.attacks.base import Attack, Power
from compare.attacks.random_words import Words, differences
from replog.core import Effect, Event, Received, Reply, Send
from replog.replica import Replica
from replog.types import Digest, Message, Micros, NodeId
from replog.types import Reply as Answered

Place = tuple[int, int]
"""View and seq, or term and index."""

LISTENS: Final = 0.2
"""The share of what it hears that it learns words from."""
LATE_US: Final = 200_000
SELDOM: Final = 20
"""What has been said less often than that is lied about more: a change of view passes quickly."""
CHANGED: Final = " changed"
INVENTED: Final = " invented"
FORGED: Final = " forged"
USURPED: Final = " usurped"
LIES: Final = (CHANGED, INVENTED, FORGED, USURPED)
OLD: Final = 128
"""Messages of its own that it may say again, and of others that it may forge."""


class RandomLiar(Attack):
    """Invariants:
    `acts` counts what a correct replica was told, by kind and act, a change by each field; and what nobody was told
    `actions` counts of them what the honest replica inside would not have said
    """

    kinds: tuple[type[Message], ...]

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self._chance = chance = random.Random(f"{power.seed}/random-liar/{me}")
        self._words: Words = power.shared.setdefault(
            "words", Words(random.Random(f"{power.seed}/words/{power.members}"), self.kinds)
        )
        self._rate = chance.choice((0.1, 0.2, 0.5, 0.8))
        self._deaf = chance.choice((0.0, 0.0, 0.05, 0.3))
        ways = (
            self._withhold,
            self._delay,
            self._repeat,
            self._change,
            self._change,
            self._invent,
            self._forge,
            self._usurp,
        )
        self._ways: dict[Callable[[Micros, Send], list[Effect]], float] = {}
        for way in ways:
            self._ways[way] = self._ways.get(way, 0.1) + chance.random()
        self._names = chance.choice((0.0, 0.0, 0.5, 1.0))
        """How often it backs what it proposes by votes in the names of all others."""
        self._latest: Message | None = None
        """The proposal of the highest place that it has heard or said."""
        self._old: list[Message] = []
        self._overheard: list[Message] = []
        self._late: list[tuple[Micros, Send]] = []
        self._said: dict[tuple[NodeId, bytes], set[str]] = {}
        """What each was told and has not heard yet, with the names of the acts."""
        self._proposed: dict[tuple[NodeId, Place], Digest] = power.shared.setdefault("proposed", {})
        """What a member of the coalition told each replica to have a place in the log, otherwise than its own."""
        self._times: Counter[type[Message]] = Counter()

    def sign(self, message: Any) -> Any:
        """The same in this liar's own name, with signatures of the coalition's where they belong."""
        raise NotImplementedError

    def signed(self, message: Any) -> Any:
        """With such signatures in whatever name stands there."""
        raise NotImplementedError

    def encode(self, message: Message) -> bytes:
        raise NotImplementedError

    def proposes(self, message: Message) -> Place | None:
        """The place in the log that `message` gives its digest to, if it does."""
        raise NotImplementedError

    def votes(self, message: Message) -> Place | None:
        """The place that `message` is a vote on, if it is one."""
        raise NotImplementedError

    def pretend(self, message: Any) -> Any:
        """Another proposal in place of this one, such as might be accepted."""
        raise NotImplementedError

    def votes_for(self, proposal: Any, voter: NodeId) -> list[Any]:
        """All votes for it in this name."""
        raise NotImplementedError

    def following(self, proposal: Any) -> Any:
        """The same at a later place, which nobody has given away yet."""
        raise NotImplementedError

    def lead(self, proposal: Any) -> Any:
        """The same as if this liar might propose it."""
        raise NotImplementedError

    def claim(self, message: Any) -> Any:
        """Of what it says of its past: the same with a past that stands by the coalition's lies. None of another."""
        raise NotImplementedError

    # ---------------------------------------------------------------------------------------------------- what it hears

    def hear(self, now: Micros, event: Event) -> list[Event]:
        if type(event) is not Received:
            return [event]
        self._follow(event.message)
        if self._chance.random() < LISTENS:
            self._words.learn(event.message)
            if isinstance(event.sender, int):
                self._overheard.append(event.message)
                del self._overheard[:-OLD]
        return [] if self._chance.random() < self._deaf else [event]

    def arrived(self, node: NodeId, message: Message) -> None:
        acts = self._said.pop((node, self.encode(message)), None) if self._said else None
        if acts is not None:
            self.acts.update(acts)
            self.actions += any(act.endswith(LIES) for act in acts)

    def _follow(self, message: Message) -> None:
        place = self.proposes(message)
        if place is not None and (self._latest is None or place >= (self.proposes(self._latest) or place)):
            self._latest = message

    # ----------------------------------------------------------------------------------------------------- what it says

    def speak(self, now: Micros, effects: list[Effect]) -> list[Effect]:
        said: list[Effect] = []
        for effect in effects:
            said += self._say(now, effect)
        due = [send for at, send in self._late if at <= now]
        if due:
            self._late = [(at, send) for at, send in self._late if at > now]
        return said + due

    def _say(self, now: Micros, effect: Effect) -> list[Effect]:
        if isinstance(effect, Reply):
            return self._reply(effect) if self._lies(effect.message) else [effect]
        if not isinstance(effect, Send):
            return [effect]
        self._remember(effect.message)
        if self._has_lied(effect) and self._chance.random() < 0.7:
            return self._stand_by(effect)
        if not self._lies(effect.message):
            return [effect]
        past = self.claim(effect.message) if self._chance.random() < 0.5 else None
        if past is not None:
            return [self._lie(effect.to, effect.message, self.signed(past))]
        (way,) = self._chance.choices(list(self._ways), list(self._ways.values()))
        return way(now, effect)

    def _lies(self, message: Message) -> bool:
        self._times[type(message)] += 1
        seldom = self._times[type(message)] <= SELDOM
        return self._chance.random() < (max(self._rate, 0.5) if seldom else self._rate)

    def _remember(self, message: Message) -> None:
        self._follow(message)
        if self._chance.random() < LISTENS:
            self._words.learn(message)
            self._old.append(message)
            del self._old[:-OLD]

    def _split(self, send: Send) -> tuple[tuple[NodeId, ...], list[Effect]]:
        """Some of those it is for, at least one, and the effect for the others."""
        some = self._some(send.to)
        rest = tuple(node for node in send.to if node not in some)
        return some, [Send(rest, send.message)] if rest else []

    def _some(self, nodes: tuple[NodeId, ...]) -> tuple[NodeId, ...]:
        return tuple(sorted(self._chance.sample(nodes, self._chance.randint(1, len(nodes)))))

    def _tell(self, to: tuple[NodeId, ...], message: Message, *acts: str) -> Send:
        raw = self.encode(message)
        for node in to:
            self._said[node, raw] = set(acts)
        return Send(to, message)

    def _withhold(self, now: Micros, send: Send) -> list[Effect]:
        _, rest = self._split(send)
        self.acts[_named(send.message, "withheld")] += 1
        return rest

    def _delay(self, now: Micros, send: Send) -> list[Effect]:
        some, rest = self._split(send)
        late = self._tell(some, send.message, _named(send.message, "late"))
        self._late.append((now + self._chance.randrange(LATE_US), late))
        return rest

    def _repeat(self, now: Micros, send: Send) -> list[Effect]:
        old = self._chance.choice(self._old) if self._old else send.message
        return [send, self._tell(self._some(send.to), old, _named(old, "again"))]

    def _change(self, now: Micros, send: Send) -> list[Effect]:
        """Something else for some of them, for each the same or for each another; they may hear the truth too."""
        some, effects = self._split(send)
        if self._chance.random() < 0.2:
            effects = [send]
        for group in [some] if self._chance.random() < 0.6 else [(node,) for node in some]:
            if self.proposes(send.message) and self._chance.random() < 0.7:
                effects += self._propose(group, send.message)
            else:
                effects.append(self._lie(group, send.message, self.sign(self._words.change(send.message))))
        return effects

    def _lie(self, to: tuple[NodeId, ...], truth: Message, lie: Message) -> Send:
        self._words.learn(lie)
        return self._tell(to, lie, *(name + CHANGED for name in differences(truth, lie)))

    def _propose(self, to: tuple[NodeId, ...], truth: Message) -> list[Effect]:
        """Something else, the same to all of these; maybe with votes for it."""
        lie = self.pretend(truth)
        return [self._lie(to, truth, lie), *self._back(to, self.proposes(truth), lie)]

    def _usurp(self, now: Micros, send: Send) -> list[Effect]:
        """What is next, whoever is to propose it."""
        if self._latest is None:
            return [send]
        truth, to = self.following(self._latest), self._some(self._others)
        lie = self.pretend(self.lead(truth))
        told = self._tell(to, lie, type(lie).__name__ + USURPED)
        return [send, told, *self._back(to, self.proposes(truth), lie)]

    def _back(self, to: tuple[NodeId, ...], place: Place | None, lie: Any) -> list[Effect]:
        """Remember what these were told to be there, and vote for it, maybe in the names of all others, too."""
        if place is not None:
            self._proposed.update({(node, place): lie.digest for node in to})
        names = [self.me] if self._chance.random() < 0.5 else []
        if self._chance.random() < self._names:
            names += [node for node in self._others if node not in self.power.members]
        votes = [vote for name in names for vote in self.votes_for(lie, name)]
        return [self._tell(to, vote, type(vote).__name__ + FORGED) for vote in votes]

    @property
    def _others(self) -> tuple[NodeId, ...]:
        return tuple(node for node in range(self.power.n) if node != self.me)

    def _has_lied(self, send: Send) -> bool:
        place = self.votes(send.message)
        return place is not None and any((node, place) in self._proposed for node in send.to)

    def _stand_by(self, send: Send) -> list[Effect]:
        """A vote to each for what it was told to be there."""
        place, truth = self.votes(send.message), send.message
        effects: list[Effect] = []
        for node in send.to:
            digest = self._proposed.get((node, place)) if place is not None else None
            if digest is None:
                effects.append(Send((node,), truth))
            else:
                effects.append(self._lie((node,), truth, self.sign(replace(truth, digest=digest))))
        return effects

    def _invent(self, now: Micros, send: Send) -> list[Effect]:
        lie = self.sign(self._words.invent())
        return [send, self._tell(self._some(self._others), lie, type(lie).__name__ + INVENTED)]

    def _forge(self, now: Micros, send: Send) -> list[Effect]:
        """What another has said, otherwise, as if that one had said it."""
        if not self._overheard:
            return [send]
        to, truth = self._some(self._others), self._overheard.pop()
        place = self.votes(truth)
        digest = self._proposed.get((to[0], place)) if place is not None else None
        if digest is not None:
            lie = replace(truth, digest=digest)
        else:
            lie = self.pretend(truth) if self.proposes(truth) else self._words.change(truth)
        return [send, self._tell(to, self.signed(lie), type(lie).__name__ + FORGED)]

    def _reply(self, effect: Reply) -> list[Effect]:
        """To a client: nothing, or another answer, mostly one that was given before."""
        self._words.learn(effect.message)
        if self._chance.random() < 0.5:
            self.acts[_named(effect.message, "withheld")] += 1
            return []
        known = self._words.heard("results")
        if isinstance(effect.message, Answered) and known and self._chance.random() < 0.7:
            lie: Message = replace(effect.message, results=self._chance.choice(known))
        else:
            lie = self._words.change(effect.message)
        self.acts.update(name + CHANGED for name in differences(effect.message, lie))
        return [Reply(effect.client, lie)]


def _named(message: Message, act: str) -> str:
    return f"{type(message).__name__} {act}"
