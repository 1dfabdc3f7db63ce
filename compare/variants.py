"""A protocol with another core: for mutants, and for one replica with a bug among others without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from replog.codec import Codec
from replog.core import ClientRules, Core, ProtocolSpec, Setup


class MutantSpec:
    """The honest protocol's spec with another core. It keeps the name, so that scenarios and attacks fit it."""

    def __init__(
        self,
        honest: ProtocolSpec,
        make: Callable[[Setup], Core],
        *,
        rules: Callable[[ClientRules], ClientRules] | None = None,
    ) -> None:
        """`rules`: what becomes of the rules of clients, where those are broken."""
        self._honest = honest
        self.makes = make
        self.rules = rules
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

    def boundary(self, options: Any) -> Callable[[int], int] | None:
        return self._honest.boundary(options)

    def core(self, setup: Setup) -> Core:
        return self.makes(setup)

    def client_rules(self, n: int, f: int, options: Any) -> ClientRules:
        rules = self._honest.client_rules(n, f, options)
        return rules if self.rules is None else self.rules(rules)
