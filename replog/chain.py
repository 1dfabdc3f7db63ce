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
from replog.membership import Configuration, ConfigurationAnswer, ConfigurationQuestion, Link, follow, follow_all
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
    ) -> None:
        """`rules`: for n and f. `verifier`: knows the keys of the members of a configuration."""
        self.known = known
        self.passed: list[Configuration] = []
        """Those that were known one after the other since."""
        self.flaws = 0
        """Links that proved nothing."""
        self._cluster = cluster
        self._rules = rules
        self._verifier = verifier
        self._asked: set[NodeId] = set()
        self._asked_at: Micros | None = None
        self._claims: dict[NodeId, tuple[Configuration, ...]] = {}

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
        """What leads from what was known to what is known now; None if that is the same. Where nothing is signed the
        list is empty."""
        if sender not in self._asked:
            return None
        self._asked.discard(sender)
        before = self.known
        links = self._by_proof(answer) if self.rules.certified is not None else self._by_word(sender, answer)
        return None if self.known == before else links

    def follow(self, links: Sequence[Link], told: Sequence[Configuration]) -> Configuration:
        """Go on by links that were kept, or where nothing is signed by configurations that were. Raises ValueError
        naming the flaw."""
        known = follow_all(self.known, links, self._certified)
        for following in () if self.rules.certified is not None else told:
            if following.epoch <= known.epoch:
                raise ValueError(f"epoch {following.epoch} comes after epoch {known.epoch}")
            known = following
        self.known = known
        return known

    def _by_proof(self, answer: ConfigurationAnswer) -> list[Link]:
        taken: list[Link] = []
        past = self.known.epoch - answer.epoch
        for link in answer.links[past:] if past >= 0 else ():
            try:
                self.known = follow(self.known, link, self._certified)
            except ValueError:
                self.flaws += 1
                break
            taken.append(link)
            self.passed.append(self.known)
        return taken

    def _certified(self, known: Configuration, certificate: bytes) -> tuple[int, Digest]:
        certified = self.rules.certified
        if certified is None:
            raise ValueError("nothing is signed")
        return certified(Domain(self._cluster, known.epoch), self._verifier(known), known, certificate)

    def _by_word(self, sender: NodeId, answer: ConfigurationAnswer) -> list[Link]:
        if self.known.member(sender) is not None:
            self._claims[sender] = answer.claimed
        while (following := self._claimed()) is not None:
            self.known = following
            self.passed.append(following)
            self._claims = {node: said for node, said in self._claims.items() if following.member(node) is not None}
        return []

    def _claimed(self) -> Configuration | None:
        """The next configuration, if a weak quorum of the members says the same one."""
        epoch = self.known.epoch + 1
        said = [each for claims in self._claims.values() for each in claims if each.epoch >= epoch]
        if self.rules.reply_quorum == 1:
            return max(said, key=lambda each: each.epoch, default=None)
        said, enough = [each for each in said if each.epoch == epoch], weak_quorum(self.known.f)
        return next((each for each in said if self._backers(each) >= enough), None)

    def _backers(self, following: Configuration) -> int:
        return sum(following in claims for claims in self._claims.values())
