"""What a client knows of the members: it begins with what it was given and goes on by proof.

Where replicas sign, a configuration is known by links from the one before (`replog.membership`), whoever hands them
over. Where nothing is signed nobody can prove anything to a third party: a configuration is believed when a weak quorum
of the members known so far say it directly, so one correct one among them. (HAZARDS P43) Where nobody lies (Raft) the
word of one is enough, about the next configuration or any later one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from replog.codec import Domain
from replog.core import ClientRules
from replog.keys import Verifier
from replog.membership import Configuration, ConfigurationAnswer, ConfigurationQuestion, Link, follow
from replog.quorum import weak_quorum
from replog.types import Digest, Micros, NodeId

ASK_US: Final[Micros] = 10_000_000
"""A client that is at work asks so often whether the members have changed."""


class Chain:
    """Invariants:
    `known` follows from what was given by links that were verified, or by the word of weak quorums, or of one (Raft)
    a replica answers a question once: what it sends beyond that is not looked at
    """

    def __init__(
        self,
        known: Configuration,
        cluster: str,
        rules: Callable[[int, int], ClientRules],
        verifier: Callable[[Configuration], Verifier],
        begins: Digest = b"",
    ) -> None:
        """`rules`: for n and f. `verifier`: knows the keys of the members of a configuration. `begins`: digest of the
        state that the epoch of `known` begins with, if it is a later one."""
        self.known = known
        self.begins = begins
        self.flaws = 0
        """Links that proved nothing."""
        self._cluster = cluster
        self._rules = rules
        self._verifier = verifier
        self._asked: set[NodeId] = set()
        self._asked_at: Micros | None = None
        self._claims: dict[NodeId, ConfigurationAnswer] = {}

    @property
    def rules(self) -> ClientRules:
        return self._rules(self.known.n, self.known.f)

    def due(self, now: Micros, every: Micros = ASK_US) -> bool:
        """Whether it is time to ask all."""
        return self._asked_at is None or now >= self._asked_at + every

    def asks(self, node: NodeId) -> bool:
        """Whether an answer of this one is waited for."""
        return node in self._asked

    @property
    def certain(self) -> bool:
        """Whether so many members have answered that one of them is correct and was part of whatever was certified."""
        return sum(member.id in self._asked for member in self.known.members) <= self.known.f

    def ask(self, now: Micros, nodes: Sequence[NodeId]) -> ConfigurationQuestion:
        """The question, which these are about to be asked."""
        if len(nodes) == len(self.known.ids):
            self._asked_at = now
        self._asked.update(nodes)
        return ConfigurationQuestion(self.known.epoch)

    def hear(self, sender: NodeId, answer: ConfigurationAnswer) -> list[Link] | None:
        """What leads from what was known to what is known now; None if there is nothing new."""
        if sender not in self._asked:
            return None
        self._asked.discard(sender)
        if self.rules.certified is None:
            return self._by_trust(sender, answer)
        links = self._by_word(sender, answer) if self.rules.macs else self._by_proof(answer)
        return links or None

    def follow(self, links: Sequence[Link], told: Configuration | None = None) -> Configuration:
        """Go on by links that were kept. Raises ValueError naming the flaw. Where nothing is signed they are believed:
        they were when they were heard. `told`: what one member said, where that is enough."""
        for link in links:
            self._follow(link)
        if self.rules.certified is None and told is not None:
            self.known = told
        return self.known

    def _by_proof(self, answer: ConfigurationAnswer) -> list[Link]:
        taken: list[Link] = []
        while (link := answer.link(self.known.epoch)) is not None:
            try:
                self._follow(link)
            except ValueError:
                self.flaws += 1
                break
            taken.append(link)
        return taken

    def _follow(self, link: Link) -> None:
        proved = self._certified(self.known, link.certificate)
        self.known = follow(self.known, link, lambda *_: proved)
        self.begins = proved[1]

    def _certified(self, known: Configuration, certificate: bytes) -> tuple[int, Digest]:
        certified = self.rules.certified
        if certified is None:
            raise ValueError("the members never change")
        domain = Domain(self._cluster, known.epoch, self.begins)
        return certified(domain, self._verifier(known), known, certificate)

    def _by_trust(self, sender: NodeId, answer: ConfigurationAnswer) -> list[Link] | None:
        """Whatever later one a member says. There are no links."""
        later = [each for each in answer.claimed if each.epoch > self.known.epoch]
        if not later or self.known.member(sender) is None:
            return None
        self.known = max(later, key=lambda each: each.epoch)
        return []

    def _by_word(self, sender: NodeId, answer: ConfigurationAnswer) -> list[Link]:
        """As far as a weak quorum of those whose epoch it ends says the same."""
        taken: list[Link] = []
        if self.known.member(sender) is not None:
            self._claims[sender] = answer
        while (link := self._claimed()) is not None:
            self._follow(link)
            taken.append(link)
            self._claims = {node: said for node, said in self._claims.items() if self.known.member(node) is not None}
        return taken

    def _claimed(self) -> Link | None:
        """The next link, if a weak quorum of the members says that the state at the boundary is this one."""
        said: dict[tuple[int, Digest], list[Link]] = {}
        for answer in self._claims.values():
            link = answer.link(self.known.epoch)
            if link is not None and (state := self._state(link)) is not None:
                said.setdefault(state, []).append(link)
        enough = weak_quorum(self.known.f)
        return next((links[0] for links in said.values() if len(links) >= enough), None)

    def _state(self, link: Link) -> tuple[int, Digest] | None:
        """What it says of the state at the boundary; None if nobody gets on from there."""
        try:
            follow(self.known, link, self._certified)
            return self._certified(self.known, link.certificate)
        except ValueError:
            return None
