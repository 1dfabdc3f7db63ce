"""Raft as the worlds, the command and the comparison know it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from raft.core import RaftCore
from raft.messages import MESSAGES, RECORDS
from replog.core import ClientRules, Core, Setup
from replog.membership import OPEN

if TYPE_CHECKING:  # pydantic takes longer to load than all the rest
    from raft.config import RaftConfig


class RaftSpec:
    """n servers stand f crashes as long as a majority of them is up: n >= 2f + 1. [Raft 2]"""

    name: Final = "raft"
    leader_word: Final = "leader"
    view_word: Final = "term"
    messages: Final = MESSAGES
    records: Final = RECORDS

    def replicas(self, f: int) -> int:
        return 2 * f + 1

    def faults(self, n: int) -> int:
        return (n - 1) // 2

    def check_size(self, n: int, f: int) -> None:
        if f < 0 or n < 2 * f + 1:
            raise ValueError(f"n = {n}, f = {f}: Raft needs f >= 0 and n >= 2f + 1 = {2 * max(f, 0) + 1}")

    def options(self, given: dict[str, Any]) -> RaftConfig:
        from raft.config import RaftConfig

        return RaftConfig.model_validate(given)

    def boundary(self, options: Any) -> Callable[[int], int] | None:
        """A change begins when C_new is committed, at no index that could be told before. [Raft 6]"""
        return lambda _: OPEN - 1

    def core(self, setup: Setup) -> Core:
        return RaftCore(setup)

    def client_rules(self, n: int, f: int, options: RaftConfig) -> ClientRules:
        """One answer is enough: Raft's servers do not lie. [Raft 8]"""
        return ClientRules(
            reply_quorum=1,
            retry_all=False,
            retry_us=options.client_retry_us,
            request_bytes_max=options.request_bytes_max,
            read_quorum=1 if options.fast_reads else 0,
            read_from=options.read_from,
        )


SPEC: Final = RaftSpec()
