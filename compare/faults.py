"""Faults of the environment, by name: what they do to which engine. Lies are not here (`compare.attacks`).

A fault is a pair of verbs, one for its beginning and one for its end. Each engine carries out the verbs in its own way
(`compare.runner`, `compare.live`); a fault that an engine cannot make is refused before the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from compare.options import Loss, Options

Engine = Literal["sim", "live"]
Verb = Literal[
    "crash",
    "restart",
    "pause",
    "resume",
    "isolate",
    "join",
    "split",
    "part",
    "heal",
    "lose",
    "deliver",
    "figure-eight",
    "release",
]


@dataclass(frozen=True)
class Fault:
    """`protocols`: those that it can strike, or None for any."""

    name: str
    summary: str
    begin: Verb
    end: Verb
    engines: tuple[Engine, ...] = ("sim", "live")
    protocols: tuple[str, ...] | None = None
    options: type[Options] = Options


FAULTS: Final[Mapping[str, Fault]] = {
    fault.name: fault
    for fault in (
        Fault("crash", "kill the replica; at the end it starts again from its disk", "crash", "restart"),
        Fault("pause", "the process stands still, its timers run out unseen", "pause", "resume"),
        Fault("isolate", "cut the replica's links to other replicas, clients reach it", "isolate", "join", ("sim",)),
        Fault("split", "cut the links between the targets together and all other replicas", "split", "heal", ("sim",)),
        Fault("apart", "cut the links between each two of the targets; others reach both", "part", "heal", ("sim",)),
        Fault(
            "figure-eight",
            "crashes and losses in the order of Raft's figure 8, five servers or more",
            "figure-eight",
            "release",
            ("sim",),
            ("raft",),
        ),
        Fault("loss", "every link loses frames with chance `loss`", "lose", "deliver", ("sim",), options=Loss),
    )
}
