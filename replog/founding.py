"""A cluster over several machines: one folder for each of them, and one for whoever administers it.

    OUT/admin/           ca.key, the administrator's key, keys of the commands' clients: for one safe machine alone
    OUT/HOST-PORT/       what that machine needs: cluster.toml, ca.pem, host.toml, certificates, empty storage

No private key of a replica passes through here: each machine makes its own (`replog.handover`). With `keys_here` they
are made here all the same, which one machine must never do for a cluster that is to stand liars. Not here: a cluster on
one machine (`replog.config.create_cluster`).
"""

from __future__ import annotations

import datetime
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from replog import certificates
from replog.certificates import LINK_CERTIFICATE, Authority, PublicKeys, write_new
from replog.config import (
    ADMIN_FOLDER,
    FILE,
    IDENTITIES,
    PORT_MAX,
    ClusterConfig,
    Durability,
    application_of,
    for_use,
    made_aside,
    refuse_existing,
    size_of,
    storage_owner,
    toml_of,
    write_cluster,
)
from replog.enrolment import check_host
from replog.errors import ConfigError
from replog.handover import GATEWAY, NODE, HandedFile
from replog.host import FILE as HOST_FILE
from replog.host import LOOPBACK, PORT_OFFSET
from replog.storage import Storage

ADMINISTRATION: Final = "admin"
"""The folder of whoever administers the cluster."""
COMMANDS: Final = ("cli", "cli-2", "cli-3", "cli-4")
"""Clients of that folder: as many commands may run at a time."""
APP_FOLDER: Final = "app"
LIFETIME_DAYS: Final = 730
"""Of certificates of links, which can be renewed while the cluster runs."""


@dataclass(frozen=True)
class Place:
    """Where the others find a replica."""

    host: str
    port: int

    @classmethod
    def read(cls, text: str) -> Place:
        """`h1:4700`, `[::1]:4700`. Raises ConfigError."""
        host, colon, port = text.rpartition(":")
        host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if not colon or not (port.isascii() and port.isdigit() and len(port) < 6 and 1 <= int(port) <= PORT_MAX):
            raise ConfigError(f"host = {text!r:.80}: must be HOST:PORT, the port within 1 .. {PORT_MAX}")
        check_host(host)
        return cls(host, int(port))

    @property
    def folder(self) -> str:
        return f"{self.host}-{self.port}".replace(":", "_").replace("%", "_")


@dataclass(frozen=True)
class Plan:
    """What is to be founded. `public`: what each machine has handed over, in the order of `places`; None: all keys are
    made here. `bind`: where replicas listen, if not where they are found. `gateway`: where gateways listen."""

    protocol: str
    places: Sequence[Place]
    public: Sequence[HandedFile] | None
    f: int | None = None
    app: str = "replog.apps.kv:KeyValue"
    durability: Durability = "always"
    bind: str | None = None
    gateway: str = LOOPBACK
    days: int = LIFETIME_DAYS
    options: dict[str, Any] = field(default_factory=dict)


def found(out: Path, plan: Plan) -> ClusterConfig:
    """Make all folders in `out`, which is new or empty; the administrator's. Raises ConfigError, and makes nothing."""
    out = out.absolute()
    n, f = size_of(plan.protocol, len(plan.places), plan.f)
    _check(plan)
    options, app = for_use(plan.protocol, plan.options), application_of(plan.app)
    refuse_existing(out)
    with made_aside(out) as made:
        admin = made / ADMINISTRATION
        admin.mkdir(mode=0o700)
        founder = _Founder(admin, plan, f)
        nodes = [founder.node(made, node) for node in range(n)]
        values: dict[str, Any] = {"version": 1, "cluster": founder.cluster, "protocol": plan.protocol, "n": n, "f": f}
        values |= {**app, "app": _app_of(app["app"]), "durability": plan.durability, "admin": founder.admin}
        values |= {"options": options, "nodes": nodes, "clients": founder.clients}
        for place in (admin, *(made / each.folder for each in plan.places)):
            _complete(place, values, admin, app["app"], founder.identities)
    return ClusterConfig.load(out / ADMINISTRATION)


def _check(plan: Plan) -> None:
    """Two replicas at one address, or of one key, would count twice and fail as one. (HAZARDS X9)"""
    for place in plan.places:
        if plan.places.count(place) > 1:
            raise ConfigError(f"host = {place.host}:{place.port}: is named twice; each replica has its own address")
    folders = [place.folder for place in plan.places]
    if twice := [folder for folder in folders if folders.count(folder) > 1 or folder == ADMINISTRATION]:
        raise ConfigError(f"host: two folders would have the name {twice[0]}; choose other ports")
    if plan.public is None:
        return
    if len(plan.public) != len(plan.places):
        raise ConfigError(f"--peers: {len(plan.public)} files for {len(plan.places)} hosts; one a host is needed")
    keys = [key for file in plan.public for each in file.keys.values() for key in (each.identity, each.link)]
    if len(set(keys)) != len(keys):
        raise ConfigError("--peers: a key is there twice; each host makes its own with replog key new")


class _Founder:
    """Invariant: everybody in `clients` and every node has its certificate in `identities`."""

    def __init__(self, admin: Path, plan: Plan, f: int) -> None:
        self.cluster = secrets.token_hex(16)
        self._plan, self._size = plan, (len(plan.places), f)
        self._authority = Authority.make(admin, self.cluster)
        (admin / ADMIN_FOLDER).mkdir(mode=0o700)
        self.admin = certificates.make_key(admin / ADMIN_FOLDER)
        self.identities: list[str] = []
        self.clients: list[dict[str, Any]] = []
        for name in COMMANDS:
            self._client(admin, name, "admin", None)

    def node(self, made: Path, node: int) -> dict[str, Any]:
        """The folder of a machine, and what cluster.toml says of its replica."""
        place, handed = self._plan.places[node], self._plan.public[node] if self._plan.public is not None else None
        folder = made / place.folder
        own = folder / f"node-{node}"
        own.mkdir(mode=0o700, parents=True)
        folder.chmod(0o700)
        public = handed.public(NODE) if handed is not None else certificates.make_keys(own)
        self._certify(own, node, public)
        Storage.create(own, storage_owner(self.cluster, node))
        self._client(folder, f"gateway-{node}", "write", handed, hosts=(place.host, "localhost", LOOPBACK))
        write_new(folder / HOST_FILE, toml_of(self._host(node, place)).encode(), mode=0o644)
        return {"id": node, "host": place.host, "port": place.port, "public_key": public.identity}

    def _host(self, node: int, place: Place) -> dict[str, Any]:
        bind = {} if self._plan.bind is None else {"bind": self._plan.bind}
        gateway = {"client": f"gateway-{node}", "host": self._plan.gateway, "port": place.port + PORT_OFFSET}
        return {"version": 1, "node": node, **bind, "gateway": gateway}

    def _client(self, folder: Path, name: str, role: str, handed: HandedFile | None, hosts: Sequence[str] = ()) -> None:
        own = folder / f"client-{name}"
        own.mkdir(mode=0o700)
        public = handed.public(GATEWAY) if handed is not None else certificates.make_keys(own)
        self._certify(own, name, public, hosts)
        self.clients.append({"name": name, "public_key": public.identity, "role": role})

    def _certify(self, own: Path, who: int | str, public: PublicKeys, hosts: Sequence[str] = ()) -> None:
        lifetime = datetime.timedelta(days=self._plan.days)
        link = self._authority.certify_link(who, public.link, lifetime, hosts)
        write_new(own / LINK_CERTIFICATE, link.encode(), mode=0o644)
        self.identities.append(self._authority.certify(who, public.identity, *self._size))


def _app_of(app: str) -> str:
    """A file goes along with each folder."""
    place, _, name = app.rpartition(":")
    return f"{APP_FOLDER}/{Path(place).name}:{name}" if place.endswith(".py") else app


def _complete(folder: Path, values: dict[str, Any], admin: Path, app: str, identities: Sequence[str]) -> None:
    """What is the same in every folder. cluster.toml is the last."""
    if folder != admin:
        shutil.copyfile(admin / "ca.pem", folder / "ca.pem")
    else:
        write_new(folder / HOST_FILE, b"version = 1\n", mode=0o644)
    write_new(folder / IDENTITIES, "".join(identities).encode(), mode=0o644)
    place = app.rpartition(":")[0]
    if place.endswith(".py"):
        (folder / APP_FOLDER).mkdir()
        shutil.copyfile(place, folder / APP_FOLDER / Path(place).name)
    write_cluster(folder, values)


def by_host(places: Sequence[Place], public: Sequence[HandedFile]) -> list[HandedFile]:
    """The files in the order of the hosts: by name where each host has one of its name, else as they were given."""
    named = {file.name: file for file in public}
    hosts = [place.host for place in places]
    if len(named) == len(public) == len(set(hosts)) and set(hosts) == named.keys():
        return [named[host] for host in hosts]
    return list(public)


__all__ = ["ADMINISTRATION", "FILE", "LIFETIME_DAYS", "Place", "Plan", "by_host", "found"]
