"""What a mutant is: a protocol with one rule taken out, by which judges prove that they can see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from replog.codec import Codec
from replog.core import ClientRules, Core, ProtocolSpec, Setup


class MutantSpec:
    """The honest protocol's spec with another core. It keeps the name, so that scenarios and attacks fit it."""

    def __init__(self, honest: ProtocolSpec, make: Callable[[Setup], Core], *, quorum: int | None = None) -> None:
        """`quorum`: replies that a client takes for a result, where the mutant's clients are mutated too."""
        self._honest = honest
        self._make = make
        self._quorum = quorum
        self.name: str = honest.name
        self.leader_word: str = honest.leader_word
        self.view_word: str = honest.view_word
        self.messages: Codec[Any] = honest.messages
        self.records: Codec[Any] = honest.records

    def replicas(self, f: int) -> int:
        return self._honest.replicas(f)

    def faults(self, n: int) -> int:
        return self._honest.faults(n)

    def check_size(self, n: int, f: int) -> None:
        self._honest.check_size(n, f)

    def options(self, given: dict[str, Any]) -> Any:
        return self._honest.options(given)

    def core(self, setup: Setup) -> Core:
        return self._make(setup)

    def client_rules(self, n: int, f: int, options: Any) -> ClientRules:
        rules = self._honest.client_rules(n, f, options)
        if self._quorum is None:
            return rules
        return replace(rules, reply_quorum=self._quorum)


@dataclass(frozen=True)
class Mutant:
    """`hazard`: the row of HAZARDS whose rule is taken out. `scenario`: where it must be caught. `seeds`: within how
    many, from 1 on."""

    name: str
    hazard: str
    summary: str
    scenario: str
    seeds: int
    spec: ProtocolSpec
