"""Hosts of their own on one machine: each a network namespace with one address, and a router between them that delays,
loses and swallows packets. Linux, and root.

The router is a thread of this process with the other end of each host's only interface (TUN). Delay and loss are the
kernel's own where it has them (`tc netem`), else the router's: TCP cannot tell. Packets of a host that is cut off are
swallowed without a word, as when its cable is cut.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import os
import random
import select
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from replog.config import FILE, ClusterConfig, create_cluster

TUN = Path("/dev/net/tun")
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
NET = "10.83.0"
PORT = 4700
PACKET_MAX = 65_536


def forbidden() -> str:
    """Why the machine has no hosts to give, whatever is installed; "" if it has."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not TUN.exists() or subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode:
        return f"network namespaces need a kernel that has them, and {TUN}"
    return ""


def lacking() -> str:
    """What would have to be installed; "" if nothing."""
    return "network namespaces need iproute2" if shutil.which("ip") is None else ""


def demand() -> None:
    """Skip the test where there can be no hosts; with CI what can be installed has to be there."""
    if reason := forbidden():
        pytest.skip(reason)
    if (reason := lacking()) and not os.environ.get("CI"):
        pytest.skip(reason)
    assert not reason, reason


class Hosts:
    """Host K has the address NET.(K + 1); the last one is for the test itself.

    Invariant: after `close` no namespace, no interface and no thread of it is left, and this process is in the network
    that it was in."""

    def __init__(self, count: int) -> None:
        self.netem = False
        self._names = [f"replog-{os.getpid()}-{host}" for host in range(count + 1)]
        self._lines: list[int] = []
        self._cut: set[int] = set()
        self._delay_s = 0.0
        self._loss = 0.0
        self._chance = random.Random(1)
        self._late: list[tuple[float, int, int, bytes]] = []
        self._over = False
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY)
        self._router = threading.Thread(target=self._route, daemon=True)
        try:
            for host, name in enumerate(self._names):
                _ip("netns", "add", name)
                self._lines.append(self._line(host, name))
            self._router.start()
            _enter(Path("/var/run/netns") / self._names[-1])
        except BaseException:
            self.close()
            raise

    def address(self, host: int) -> str:
        return f"{NET}.{host + 1}"

    def prefix(self, host: int) -> tuple[str, ...]:
        """What stands before a command that is to run on this host."""
        return ("ip", "netns", "exec", self._names[host])

    def _line(self, host: int, name: str) -> int:
        """Our end of its interface."""
        line, interface = os.open(TUN, os.O_RDWR | os.O_NONBLOCK), f"rl{host}p{os.getpid() % 100_000}"
        fcntl.ioctl(line, TUNSETIFF, struct.pack("16sH14x", interface.encode(), IFF_TUN | IFF_NO_PI))
        _ip("link", "set", interface, "netns", name)
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "address", "add", f"{self.address(host)}/24", "dev", interface)
        _ip("-n", name, "link", "set", interface, "up")
        return line

    def disturb(self, delay_s: float, loss: float) -> None:
        """Every packet on its way from any host is late by so much, and lost with this chance; 0 and 0 end it."""
        netem = ("root", "netem", "delay", f"{delay_s * 1000:g}ms", "loss", f"{loss * 100:g}%")
        done = [
            subprocess.run(
                ["tc", "-n", name, "qdisc", "replace", "dev", f"rl{host}p{os.getpid() % 100_000}", *netem],
                capture_output=True,
            )
            for host, name in enumerate(self._names)
        ]
        self.netem = all(one.returncode == 0 for one in done)
        if not self.netem:
            self._delay_s, self._loss = delay_s, loss

    def cut(self, *hosts: int) -> None:
        """What these send, and what is sent to them, is swallowed."""
        self._cut |= set(hosts)

    def heal(self) -> None:
        self._cut.clear()

    # ------------------------------------------------------------------------------------------------------ the router

    def _route(self) -> None:
        while not self._over:
            ready, _, _ = select.select(self._lines, [], [], 0.005)
            for line in ready:
                with contextlib.suppress(BlockingIOError):
                    for _ in range(64):
                        self._take(self._lines.index(line), os.read(line, PACKET_MAX))
            while self._late and self._late[0][0] <= time.monotonic():
                _, _, host, packet = heapq.heappop(self._late)
                with contextlib.suppress(OSError):
                    os.write(self._lines[host], packet)

    def _take(self, sender: int, packet: bytes) -> None:
        host = packet[19] - 1 if len(packet) >= 20 and packet[0] >> 4 == 4 else -1
        if not 0 <= host < len(self._lines) or {sender, host} & self._cut or self._chance.random() < self._loss:
            return
        heapq.heappush(self._late, (time.monotonic() + self._delay_s, time.monotonic_ns(), host, packet))

    def close(self) -> None:
        _enter(self._home)
        os.close(self._home)
        self._over = True
        if self._router.is_alive():
            self._router.join()
        for line in self._lines:
            os.close(line)
        for name in self._names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr.strip()}"


def _enter(place: Path | int) -> None:
    """Have this thread open its sockets there from now on."""
    line = place if isinstance(place, int) else os.open(place, os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.setns(line, CLONE_NEWNET)
    if not isinstance(place, int):
        os.close(line)
    if failed:
        raise OSError(ctypes.get_errno(), f"setns: {place}")


@contextlib.contextmanager
def hosts(count: int) -> Iterator[Hosts]:
    demand()
    made = Hosts(count)
    try:
        yield made
    finally:
        made.close()


def cluster_on(folder: Path, made: Hosts, protocol: str, n: int, **more: Any) -> ClusterConfig:
    """A cluster with replica K on host K."""
    config = create_cluster(folder, protocol, n=n, port=[PORT] * n, **more)
    file = config.folder / FILE
    text = file.read_text()
    for node in range(n):
        text = text.replace('host = "127.0.0.1"', f'host = "{made.address(node)}"', 1)
    file.write_text(text)
    return ClusterConfig.load(folder)
