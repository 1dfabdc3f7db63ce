"""What work costs: the cost model of the simulated machine, and the meter of its signatures.

Here: prices and counts. Not here: who waits for whom (`replog.sim.process`), nor how long a disk or a link takes
(`replog.sim.disk`, `network`): those are latencies and cost no core.

`REFERENCE` is fixed in the package, so that a seed means the same everywhere. Its figures were measured on a machine
with two cores, libsodium, SQLite and loopback links.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from replog.meters import Meter
from replog.types import Principal

NO_HANDLING: Final[Mapping[str, float]] = MappingProxyType({})


@dataclass(frozen=True)
class CostModel:
    """Microseconds of one core, unless the name says otherwise."""

    cores: int = 2
    """Cores of the machine that all replicas and clients share; 0: every process has one of its own."""
    sign_us: float = 17
    verify_us: float = 41
    frame_in_us: float = 30
    """Reading one frame: system call, TLS, event loop. With `frame_out_us` 60 us for a lone frame, both ends."""
    frame_out_us: float = 30
    message_us: float = 4
    """Decoding and dispatching one message, or encoding one."""
    byte_ns: float = 4
    """Per byte received or sent: TLS, copies, digest."""
    commit_us: float = 30
    """The core's part of one transaction; the wait for the disk is `DiskModel.sync_us`."""
    record_us: float = 3
    """Encoding and storing one record in a transaction."""
    operation_us: float = 2.0
    """Executing one operation of a client."""
    client_operation_us: float = 1.0
    """A client's own work for one operation, sending and receiving."""
    mac_us: float = 1.5
    """Making or checking one MAC of a request, its key included. Those of the links are in the price of frames."""
    turn_us: float = 0.0
    """Waking up for a turn, whatever is in it: event loop, context switch. In `REFERENCE` it is in the frames."""
    request_us: float = 0.0
    """Ordering and answering one request of a client, beside its operations."""
    client_request_us: float = 0.0
    """A client's own work for one request, beside its signature and its operations."""
    client_frame_us: float | None = None
    """Reading or sending one frame in a client; None: as in a replica."""
    handling: Mapping[str, float] = field(default_factory=lambda: NO_HANDLING)
    """What the core does with one event, beside decoding and signatures: microseconds by the name of the message's or
    event's class. `REFERENCE` has none: there it is in `message_us`."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            for part, price in value.items() if name == "handling" else [("", value)]:
                if price is not None and price < 0:
                    raise ValueError(f"cost model: {f'{name} {part}'.strip()} is {price}; a cost is not negative")

    def slower(self, times: int, cores: int) -> CostModel:
        """A machine on which everything takes so many times as long."""
        handling = {name: times * price for name, price in self.handling.items()}
        slow: dict[str, Any] = {
            name: times * price for name, price in vars(self).items() if isinstance(price, int | float)
        }
        return replace(self, **slow | {"cores": cores, "handling": MappingProxyType(handling)})


REFERENCE = CostModel()
FREE = CostModel(0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, 0.0)
"""Work takes no time: for tests of order, where only latencies of links and disks matter."""


class MeteredHashVerifier:
    """`replog.keys.HashVerifier`, counted, in one call: the hottest function of a simulation. A hash that has taken its
    key in is copied for each statement: that saves the half of the work that is the same each time."""

    def __init__(self, secrets: Mapping[Principal, bytes], meter: Meter) -> None:
        self._secrets = secrets
        self._keyed: dict[Principal, hashlib.blake2b] = {}
        self._meter = meter

    def extended(self, keys: Mapping[Principal, bytes]) -> MeteredHashVerifier:
        """The secrets of new members are added to those of the others where they are made."""
        return self

    def knows(self, signer: Principal) -> bool:
        return signer in self._secrets

    def verify(self, signer: Principal, statement: bytes, signature: bytes) -> bool:
        self._meter.verified += 1
        keyed = self._keyed.get(signer) or self._key(signer)
        if keyed is None:
            return False
        hashed = keyed.copy()
        hashed.update(statement)
        return hmac.compare_digest(hashed.digest(), signature)

    def _key(self, signer: Principal) -> hashlib.blake2b | None:
        secret = self._secrets.get(signer)
        if secret is not None:
            self._keyed[signer] = hashlib.blake2b(digest_size=16, key=secret)
        return self._keyed.get(signer)
