"""Clients that are registered, given another role and revoked, as an administrator has it done: the command in the log,
certificates, and the folder that a client works from. Used by `replog client`.

Not here: what is a lawful change (`replog.access`, the same on every replica).
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from replog import certificates, handover
from replog.access import NAME, Access, Grant, Role, operation_of
from replog.certificates import LINK_CERTIFICATE, Authority, PublicKeys, write_new
from replog.config import ADMIN_FOLDER, FILE, IDENTITIES, ClusterConfig
from replog.enrolment import CA_KEY, administrator
from replog.errors import ConfigError, OperationFailed
from replog.founding import APP_FOLDER
from replog.host import FILE as HOST_FILE
from replog.host import HostConfig
from replog.live.client import LogClient
from replog.membership import VALID_US
from replog.roster import FILE as MEMBERS_FILE


class Registrar:
    """Whoever may change who the clients are: with the administrator's key, or as a client of role admin."""

    def __init__(self, config: ClusterConfig, key: str | os.PathLike[str] | None = None) -> None:
        """`key`: the folder of the administrator's key.pem; without it the cluster's own, and without that the role of
        the client that asks has to be enough. Raises ConfigError."""
        self._config = config
        at_hand = config.admin is not None and (config.folder / ADMIN_FOLDER / certificates.IDENTITY_KEY).is_file()
        self._sign: Callable[[bytes], bytes] | None = None
        if key is not None or at_hand:
            self._sign = administrator(config, key).sign

    async def set(self, client: LogClient, name: str, role: Role) -> Access:
        """Give a client that is registered another role, or revoke it. Raises as `LogClient.grant`, and ConfigError."""
        held = await client.access()
        known = held.of(name)
        if known is None:
            names = ", ".join(each.name for each in held.clients)
            raise ConfigError(f"client = {name!r:.80}: is not registered with this cluster; registered are {names}")
        return await self._grant(client, held, name, known.public_key, role)

    async def add(self, client: LogClient, name: str, role: Role, folder: Path, public: PublicKeys | None) -> Access:
        """Register a client, and make what it works from: `folder`, or its place in the cluster's own. `public`: of
        keys that it has made itself; None: they are made here. Raises as `set`, having left nothing behind where it is
        certain that nobody was registered."""
        if not NAME.fullmatch(name):
            raise ConfigError(f"client = {name!r:.80}: lower-case letters, digits, hyphens, a letter first, at most 63")
        home = client_home(self._config, folder, name)
        authority, held = self._authority(), await client.access()
        made = make_folder(self._config, folder, name)
        try:
            public = public if public is not None else certificates.make_keys(home)
            write_new(home / LINK_CERTIFICATE, authority.certify_link(name, public.link).encode(), mode=0o644)
            after = await self._grant(client, held, name, bytes.fromhex(public.identity), role)
        except (ConfigError, OperationFailed):
            shutil.rmtree(made, ignore_errors=True)
            raise
        with (self._config.folder / IDENTITIES).open("a") as file:
            file.write(authority.certify(name, public.identity, self._config.n, self._config.f))
        return after

    def _authority(self) -> Authority:
        path = self._config.folder / CA_KEY
        if not path.is_file():
            raise ConfigError(f"{path}: is missing: clients are certified with it; do this where it is")
        return Authority.load(self._config.folder, self._config.cluster)

    async def _grant(self, client: LogClient, held: Access, name: str, key: bytes, role: Role) -> Access:
        until = time.time_ns() // 1_000 + VALID_US
        grant = Grant(held.serial + 1, name, key, role, until)
        return await client.grant(operation_of(self._sign, self._config.cluster, grant))


def client_home(config: ClusterConfig, folder: Path, name: str) -> Path:
    """Where the keys of a client lie, in the cluster's folder or in one of its own."""
    return folder.absolute() / config.client_folder(name).name


def make_folder(config: ClusterConfig, folder: Path, name: str) -> Path:
    """Room for a client's keys in `folder`, which becomes what a client needs if it is not the cluster's own. What was
    made. Raises ConfigError for one that is there."""
    home = client_home(config, folder, name)
    own = folder.absolute() != config.folder
    made = folder if own else home
    try:
        if own:
            folder.mkdir(mode=0o700, parents=True)
            copy_public(config, folder)
        home.mkdir(mode=0o700)
    except FileExistsError:
        raise ConfigError(f"{made}: exists already; nothing there is written over, name another folder") from None
    except OSError as error:
        raise ConfigError(f"{made}: cannot be made: {error.strerror or error}") from None
    return made


def copy_public(config: ClusterConfig, folder: Path) -> None:
    """What a client has to know of the cluster, and no secret."""
    for name in (FILE, "ca.pem", IDENTITIES, MEMBERS_FILE):
        if (config.folder / name).is_file():
            shutil.copyfile(config.folder / name, folder / name)
    if (config.folder / APP_FOLDER).is_dir():
        shutil.copytree(config.folder / APP_FOLDER, folder / APP_FOLDER)
    write_new(folder / HOST_FILE, b"version = 1\n", mode=0o644)


def install(config: ClusterConfig, made: Path) -> list[str]:
    """Move keys that `replog key new` has made to where this folder's replica, gateway or client looks for them; what
    they are of. Raises ConfigError."""
    host = HostConfig.of(config)
    if host.node is None:
        homes = {f"client {path.name.removeprefix('client-')}": (made, path) for path in config.folder.glob("client-*")}
    else:
        gateway = host.gateway.client
        homes = {f"client {gateway}": (made / handover.GATEWAY, config.client_folder(gateway))}
        homes[f"node {host.node}"] = made, config.node_folder(host.node)
    return [who for who, (source, home) in sorted(homes.items()) if home.is_dir() and handover.install(source, home)]
