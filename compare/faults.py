"""Faults of the environment, by name: what they are, in which failure model, on which engine. Lies are not here
(`compare.attacks`), nor how a fault is made (`compare.sim_faults`, `compare.live`).

The failure models contain each other: crash-stop < omission < crash-recovery < Byzantine. Fail-stop is a crash-stop
with a detector. What strikes links, clocks or speed alone is outside of that order: no process has failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from compare import fault_options as of
from compare.options import Options

Engine = Literal["sim", "live"]
Model = Literal["crash-stop", "omission", "crash-recovery", "byzantine", "network", "clock", "speed"]


@dataclass(frozen=True)
class Fault:
    """`model`: the least failure model that it belongs to. `protocols`: those that it can strike, or None for any."""

    name: str
    summary: str
    model: Model
    options: type[Options] = Options
    engines: tuple[Engine, ...] = ("sim",)
    protocols: tuple[str, ...] | None = None


BOTH: Final[tuple[Engine, ...]] = ("sim", "live")

FAULTS: Final[Mapping[str, Fault]] = {
    fault.name: fault
    for fault in (
        Fault(
            "crash",
            "kill the replica; at the end it starts again from its disk, without an end it never does",
            "crash-recovery",
            engines=BOTH,
        ),
        Fault("fail-stop", "kill the replica, and see when the others have noticed and go on without it", "crash-stop"),
        Fault("omit-sending", "a part of what the replica sends is lost", "omission", of.Omission),
        Fault("omit-receiving", "a part of what the replica is sent is lost", "omission", of.Omission),
        Fault("amnesia", "kill the replica and empty its disk; it starts again with nothing", "byzantine", of.Amnesia),
        Fault("pause", "the process stands still, its timers run out unseen", "speed", engines=BOTH),
        Fault("slow", "every turn of the replica takes longer", "speed", of.Slowness),
        Fault("clock-jump", "the time of day of the replica jumps, and back at the end", "clock", of.Jump),
        Fault("clock-drift", "all clocks of the replica run fast or slow, timers with them", "clock", of.Drift),
        Fault("slow-disk", "every write of the replica takes longer", "speed", of.Slowness),
        Fault(
            "full-disk",
            "no write succeeds: the replica stops; at the end there is room, and it starts again",
            "crash-recovery",
        ),
        Fault(
            "failing-disk",
            "every write is reported failed, and may be there all the same: the replica stops until the end",
            "crash-recovery",
        ),
        Fault("torn-write", "the power goes while a write is under way: a part of it is on the disk", "crash-recovery"),
        Fault(
            "corrupt-disk",
            "kill the replica; bits of what was durable are others when it starts again at the end",
            "byzantine",
            of.Rot,
        ),
        Fault("old-version", "the replica is started as an older version, with its options", "byzantine", of.Older),
        Fault("mutant", "the replica is started with a broken core", "byzantine", of.Bug),
        Fault("isolate", "cut the replica's links to other replicas, clients reach it", "network"),
        Fault("split", "cut the links between the targets together and all other replicas", "network"),
        Fault("apart", "cut the links between each two of the targets; others reach both", "network"),
        Fault("halves", "cut the links between two halves, one that begins with the target", "network"),
        Fault("one-way", "cut one direction of the replica's links to other replicas", "network", of.Cut),
        Fault("bridge", "two halves reach each other by way of the target alone", "network"),
        Fault("ring", "each replica reaches the one before and the one after it, and no other", "network"),
        Fault("flap", "isolate the replica and join it, again and again", "network", of.Flapping),
        Fault("loss", "every link loses frames with chance `loss`", "network", of.Loss),
        Fault("late", "frames of and to the replica take longer", "network", of.Lateness),
        Fault("noise", "bits of what the replica sends change on the way", "network", of.Noise),
        Fault(
            "figure-eight",
            "crashes and losses in the order of Raft's figure 8, five servers or more",
            "crash-recovery",
            protocols=("raft",),
        ),
    )
}
