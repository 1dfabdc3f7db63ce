"""The folder of a replica that joins a cluster: keys, certificates by the cluster's authority, and empty storage.

Not here: the command that makes a member of it (`replog.membership`), and the folders of the first replicas, which are
made with the cluster (`replog.config`).
"""

from __future__ import annotations

import os
import secrets
import shutil
import tomllib
from pathlib import Path

from pydantic import ValidationError

from replog import certificates
from replog.config import (
    ADMIN_FOLDER,
    ASIDE,
    FILE,
    PORT_MAX,
    ClusterConfig,
    NodeConfig,
    first_fault,
    storage_owner,
    toml_of,
)
from replog.errors import ConfigError
from replog.keys import Ed25519Signer
from replog.membership import IDS_MAX
from replog.storage import Storage
from replog.types import NodeId

MEMBER = "member.toml"


def own_member(config: ClusterConfig, node: NodeId) -> NodeConfig:
    """What a replica's own folder says of it: one of the first, or one that was enrolled. Raises ConfigError."""
    if 0 <= node < config.n:
        return config.nodes[node]
    path = config.node_folder(node) / MEMBER
    try:
        found = NodeConfig.model_validate(tomllib.loads(path.read_text()))
    except FileNotFoundError:
        raise ConfigError(
            f"node = {node}: the cluster was made with nodes 0 .. {config.n - 1}, and {path} is missing"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_fault(error)}") from None
    if found.id != node:
        raise ConfigError(f"{path}: id = {found.id}: must be {node}, as the folder says")
    return found


def enroll(config: ClusterConfig, node: NodeId, host: str, port: int) -> NodeConfig:
    """Make the folder of a replica that is to join; one that was made before is used as it is. Raises ConfigError, also
    where the key of the cluster's authority is not at hand."""
    if not config.n <= node < IDS_MAX:
        raise ConfigError(f"node = {node}: a new id is within {config.n} .. {IDS_MAX - 1}")
    if not host or len(host) > 255 or not 1 <= port <= PORT_MAX:
        raise ConfigError(f"address = {host!r:.80}:{port}: takes a host and a port within 1 .. {PORT_MAX}")
    folder = config.node_folder(node)
    if not folder.exists():
        _make(config, folder, node, host, port)
    found = own_member(config, node)
    if (found.host, found.port) != (host, port):
        raise ConfigError(f"{folder}: was enrolled at {found.host}:{found.port}, not {host}:{port}; remove the folder")
    return found


def _make(config: ClusterConfig, folder: Path, node: NodeId, host: str, port: int) -> None:
    """Whole or, whatever interrupts it, not there."""
    authority = certificates.Authority.load(config.folder, config.cluster)
    aside = config.folder / f"{ASIDE}{secrets.token_hex(4)}"
    try:
        public_key = authority.enroll(aside, node)
        Storage.create(aside, storage_owner(config.cluster, node))
        own = {"id": node, "host": host, "port": port, "public_key": public_key}
        certificates.write_new(aside / MEMBER, toml_of(own).encode(), mode=0o644)
        aside.rename(folder)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made: {error.strerror or error}") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def enrolled(config: ClusterConfig) -> list[NodeId]:
    """The replicas that have a folder here, members or not."""
    names = [path.name.removeprefix("node-") for path in config.folder.glob("node-*")]
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def administrator(config: ClusterConfig, folder: str | os.PathLike[str] | None = None) -> Ed25519Signer:
    """The administrator's key, from `folder` or where the cluster's making has put it. Raises ConfigError naming what
    is missing."""
    if config.admin is None:
        rule = "it was made without an administrator's key, so its members cannot change; a new cluster has one"
        raise ConfigError(f"{config.folder / FILE}: admin is missing: {rule}")
    place = Path(folder) if folder is not None else config.folder / ADMIN_FOLDER
    signer = certificates.load_signer(place)
    if signer.public.hex() != config.admin:
        raise ConfigError(f"{place / 'key.pem'}: is not the key that {FILE} names as admin")
    return signer
