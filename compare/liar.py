"""Inside the process of a replica: a wrap that lies when a file says so. `replog.live.laboratory` writes the file.

A replica that may have to lie runs with `lie` around it, which does nothing until the file comes, takes what it says
then, and keeps the number of its acts in `actions-K` beside it. Attacks are loaded when they are ordered.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from compare.attacks import ATTACKS, Byzantine, Power, attack_of
from replog.certificates import load_signer
from replog.config import ClusterConfig, rule_of
from replog.core import Effect, Event
from replog.errors import ConfigError
from replog.keys import Ed25519Verifier
from replog.live.laboratory import order_file
from replog.replica import Replica
from replog.types import Micros, NodeId, Status

WRAP: Final = "compare.liar:lie"
LOOK_US: Final = 10_000
"""How often a liar looks for orders."""


def arguments(config: ClusterConfig, control: Path, seed: int) -> dict[str, Any]:
    """Of WRAP."""
    return {"cluster": str(config.folder), "control": str(control), "seed": seed}


def lie(node: NodeId, replica: Replica, cluster: str, control: str, seed: int) -> Liar:
    """The wrap of a replica that may be told to lie."""
    return Liar(node, replica, ClusterConfig.load(cluster), Path(control), seed)


class Liar:
    """Takes its orders from a folder. It reads its own node's key, and no other's."""

    def __init__(self, node: NodeId, replica: Replica, config: ClusterConfig, control: Path, seed: int) -> None:
        self._byzantine = Byzantine(replica, None, node)
        self._node = node
        self._config = config
        self._control = control
        self._path = order_file(control, node)
        self._seed = seed
        self._looked: Micros = 0
        self._order = (0, 0)
        self._told = 0

    def step(self, now: Micros, event: Event) -> list[Effect]:
        if now - self._looked >= LOOK_US:
            self._looked = now
            self._look(now)
        return self._byzantine.step(now, event)

    def status(self) -> Status:
        return self._byzantine.status()

    def _look(self, now: Micros) -> None:
        with contextlib.suppress(FileNotFoundError):
            found = self._path.stat()
            if (order := (found.st_ino, found.st_mtime_ns)) != self._order:
                self._order = order
                self._obey(now, json.loads(self._path.read_text()))
        if self._byzantine.actions != self._told:
            self._told = self._byzantine.actions
            (self._control / f"actions-{self._node}").write_text(str(self._told))

    def _obey(self, now: Micros, order: Mapping[str, Any]) -> None:
        self._byzantine.end(now)
        if order["attack"] is not None:
            make = attack_of(order["attack"]).makes[self._config.protocol]
            self._byzantine.begin(now, self._power(order), make)

    def _power(self, order: Mapping[str, Any]) -> Power:
        config = self._config
        return Power(
            members=tuple(order["members"]),
            signers={self._node: load_signer(config.node_folder(self._node))},
            verifier=Ed25519Verifier(config.public_keys()),
            domain=config.domain,
            n=config.n,
            f=config.f,
            machine=config.machine(),
            seed=self._seed,
            options=order["options"],
        )


def check(protocol: str, attack: str, options: Mapping[str, Any]) -> None:
    """Raises ConfigError for an attack that no replica of this protocol can make on real processes, or not so."""
    if ":" not in attack and attack not in ATTACKS:
        raise ConfigError(f"attack = {attack}: is unknown; known: {', '.join(_playable(protocol))}")
    kind = attack_of(attack)
    if protocol not in kind.protocols:
        rule = f"is one on {', '.join(kind.protocols)}; on {protocol} there are: {', '.join(_playable(protocol))}"
        raise ConfigError(f"attack = {attack}: {rule}")
    if "live" not in kind.engines:
        raise ConfigError(f"attack = {attack}: can be made in the simulator only, which sees what arrives")
    try:
        kind.options.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{name} = {first['input']!r:.80}: {rule_of(first['msg'])} (options of {attack})") from None


def _playable(protocol: str) -> list[str]:
    return sorted(name for name, kind in ATTACKS.items() if protocol in kind.protocols and "live" in kind.engines)
