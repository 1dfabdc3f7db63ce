"""Four PBFT replicas in one loop, by hand: no sockets, no threads, no asyncio, no clock.

A replica is `step(now, event) -> effects`. Here we are the world around it: what a replica wants to send we put into a
queue, what it wants on disk into a list, and when nothing moves any more we let its timers run out. Run it and read
what happens: once with all four, once with a primary that has died. The names are those of Castro and Liskov's paper.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import pbft
from replog.apps.counter import Counter
from replog.codec import Domain
from replog.core import CancelTimer, Event, Note, Persist, Received, Reply, Send, SetTimer, Setup, Started, Timeout
from replog.executor import Executor
from replog.keys import Ed25519Signer, Ed25519Verifier
from replog.replica import Replica
from replog.types import Request, Submit, decode_results

N, F = 4, 1  # n = 3f + 1: four replicas stand one liar
DOMAIN = Domain("four-cores")  # what every signature is bound to
KEYS: dict[Any, Ed25519Signer] = {who: Ed25519Signer(bytes([i + 1]) * 32) for i, who in enumerate([*range(N), "ann"])}
VERIFIER = Ed25519Verifier({who: key.public for who, key in KEYS.items()})

now = 0  # microseconds; only we move it
network: deque[tuple[Any, int, Any]] = deque()  # (sender, receiver, message)
timers: dict[tuple[int, str], int] = {}
disks: dict[int, list[Any]] = {node: [] for node in range(N)}
results: dict[int, dict[bytes, set[int]]] = {}  # timestamp -> result -> who said so


def make(node: int) -> Replica:
    """The protocol's core, with the application behind the same plug."""
    executor = Executor(Counter())
    options, rng = pbft.SPEC.options({}), random.Random(node)
    setup = Setup(node, tuple(range(N)), F, DOMAIN, options, KEYS[node], VERIFIER, executor, rng, wall=lambda: now)
    return Replica(pbft.SPEC.core(setup), executor)


def step(node: int, event: Event) -> None:
    """One event in; carry out the effects in the order of the list, which is the order of durability."""
    for effect in replicas[node].step(now, event):
        if isinstance(effect, Persist):
            disks[node].append(effect.record)  # it must be on disk before anything listed behind it leaves
        elif isinstance(effect, Send):
            if (kind := type(effect.message).__name__) != "Status":
                print(f"{now / 1e6:5.2f} s  node {node}  {kind:12} to {', '.join(map(str, effect.to))}")
            network.extend((node, to, effect.message) for to in effect.to)
        elif isinstance(effect, Reply) and isinstance(effect.client, str):
            said = effect.message
            print(f"{now / 1e6:5.2f} s  node {node}  Reply        to {effect.client}")
            results.setdefault(said.timestamp, {}).setdefault(said.results, set()).add(node)  # type: ignore[attr-defined]
        elif isinstance(effect, SetTimer):
            timers[node, effect.name] = now + effect.delay
        elif isinstance(effect, CancelTimer):
            timers.pop((node, effect.name), None)
        elif isinstance(effect, Note) and effect.kind == "view":
            print(f"{now / 1e6:5.2f} s  node {node}  is in view {effect.detail['view']}: {effect.detail['reason']}")


def until_done(timestamp: int) -> int:
    """Deliver what is under way; when all is quiet the next timer runs out. Done at f + 1 equal results: one of those
    replicas is correct."""
    global now
    while not (agreed := [raw for raw, who in results.get(timestamp, {}).items() if len(who) > F]):
        if network:
            sender, to, message = network.popleft()
            if to in replicas:
                step(to, Received(sender, message))
        else:
            (node, name), now = min(timers.items(), key=lambda timer: timer[1])
            del timers[node, name]
            if node in replicas:
                step(node, Timeout(name))
    return Counter.decode_outcome(decode_results(agreed[0]).outcomes[0])  # type: ignore[no-any-return]


def ask(timestamp: int, amount: int) -> Submit:
    operations = [Counter.operation("add", amount)]
    return Submit(Request.make(KEYS["ann"].sign, DOMAIN, "ann", timestamp, timestamp - 1, operations).raw)


replicas = {node: make(node) for node in range(N)}
for node in replicas:
    step(node, Started())

print("\nann adds 5 and sends her signed request to the primary of view 0, node 0.")
print("PRE-PREPARE gives it a number, PREPARE fixes the number in this view, COMMIT in every later one.")
network.append(("ann", 0, ask(1, 5)))
print("the counter is", until_done(1))

print("\nNode 0 dies. ann adds 2, gets no answer, and sends to all: the backups begin to wait, and lose patience.")
del replicas[0]
network.extend(("ann", node, ask(2, 2)) for node in range(1, N))
print("the counter is", until_done(2), "- nothing that was answered is lost")
