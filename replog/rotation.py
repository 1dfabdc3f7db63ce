"""New keys and certificates of links, while everything runs: `replog key rotate`.

Where the authority's key is not at hand it goes in three steps: a new key and a request beside it, a certificate for
the request from whoever has the authority, and both in the place of the old ones, where a process that runs finds them.
A request is signed with the identity key, which stays: so nobody else gets a certificate of this name.

Identity keys are not renewed in place: what a replica has signed is judged under them. A replica with another key is
another member, see `replog member replace`.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from replog import certificates
from replog.certificates import LINK_CERTIFICATE, LINK_KEY, Authority, write_new
from replog.config import IDENTITIES, Closed, ClusterConfig, PublicKey, first_fault, toml_of
from replog.errors import ConfigError
from replog.handover import Signature
from replog.host import gateway_hosts
from replog.keys import Ed25519Verifier
from replog.types import Principal

NEXT_KEY: Final = "tls.key.next"
REQUEST: Final = "renewal.toml"
FILE_BYTES_MAX: Final = 16 * 1024


class Renewal(Closed):
    """A request for a certificate of links. `who`: the number of a replica, or the name of a client."""

    format: Literal["replog-renewal/1"]
    cluster: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    who: Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
    link: PublicKey
    identity_proof: Signature
    link_proof: Signature


def who_of(folder: Path) -> Principal:
    """Whose folder this is, by its name. Raises ConfigError."""
    kind, _, name = folder.name.partition("-")
    if kind == "node" and name.isascii() and name.isdigit():
        return int(name)
    if kind == "client" and name:
        return name
    raise ConfigError(f"{folder}: must be the folder node-K or client-NAME of a cluster")


def begin(config: ClusterConfig, folder: Path) -> Path:
    """A new key beside the old one, and the request for its certificate. A second time: the same key. Raises
    ConfigError."""
    who, key = who_of(folder), folder / NEXT_KEY
    try:
        if not key.exists():
            certificates.make_key(folder, NEXT_KEY)
        link = certificates.load_signer(folder, NEXT_KEY)
        statement = _statement(config.cluster, who, link.public.hex())
        proofs = {"identity_proof": certificates.load_signer(folder).sign(statement).hex()}
        proofs["link_proof"] = link.sign(statement).hex()
        values = {"format": "replog-renewal/1", "cluster": config.cluster, "who": who, "link": link.public.hex()}
        (folder / REQUEST).write_text(toml_of({**values, **proofs}))
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror or error}") from None
    return folder / REQUEST


def _statement(cluster: str, who: Principal, link: str) -> bytes:
    return "\n".join(("replog-renewal/1", certificates.link_name(cluster, who), link)).encode()


def certify(config: ClusterConfig, request: Path, lifetime: datetime.timedelta) -> str:
    """The certificate (PEM) that is asked for, by whoever has the authority's key. Raises ConfigError."""
    renewal = _read(request)
    if renewal.cluster != config.cluster:
        raise ConfigError(f"{request}: cluster = {renewal.cluster}: is of another cluster, this is {config.cluster}")
    statement = _statement(renewal.cluster, renewal.who, renewal.link)
    proofs = ((_identity(config, renewal.who), renewal.identity_proof), (renewal.link, renewal.link_proof))
    for key, proof in proofs:
        if not Ed25519Verifier({0: bytes.fromhex(key)}).verify(0, statement, bytes.fromhex(proof)):
            raise ConfigError(f"{request}: is not signed with the keys of {renewal.who}; have it made anew")
    authority = Authority.load(config.folder, config.cluster)
    return authority.certify_link(renewal.who, renewal.link, lifetime, gateway_hosts(config, renewal.who))


def _read(path: Path) -> Renewal:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ConfigError(f"{path}: more than {FILE_BYTES_MAX} bytes, this is no request of replog key rotate")
        return Renewal.model_validate(tomllib.loads(path.read_text()))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_fault(error)}") from None


def _identity(config: ClusterConfig, who: Principal) -> str:
    """The public identity key of anybody who ever was a member or client, as the authority has certified it."""
    path = config.folder / IDENTITIES
    try:
        authority = (config.folder / "ca.pem").read_text()
        known = [
            certificates.identity_of(pem, authority, config.cluster) for pem in certificates.split(path.read_text())
        ]
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    found = next((identity for identity in known if identity.who == who), None)
    if found is None:
        raise ConfigError(f"{path}: knows nobody called {who}; a renewal is for who is registered")
    return found.public_key.hex()


def finish(config: ClusterConfig, folder: Path, pem: str) -> None:
    """Put the new key and its certificate in the place of the old ones. Interrupted, it can be done again. Raises
    ConfigError, and changes nothing, for a certificate that is not this key's."""
    who, aside = who_of(folder), folder / f".{LINK_CERTIFICATE}.next"
    key = NEXT_KEY if (folder / NEXT_KEY).exists() else LINK_KEY
    public = certificates.load_signer(folder, key).public
    if certificates.link_of(pem, config.cluster) != (who, public):
        raise ConfigError(f"{folder}: the certificate is not of the key that replog key rotate has made for {who}")
    try:
        aside.unlink(missing_ok=True)
        write_new(aside, pem.encode(), mode=0o644)
        if key == NEXT_KEY:
            (folder / NEXT_KEY).replace(folder / LINK_KEY)
        aside.replace(folder / LINK_CERTIFICATE)
        (folder / REQUEST).unlink(missing_ok=True)
        _sync(folder)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror or error}; do it again") from None


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def all_here(config: ClusterConfig) -> list[Path]:
    """Folders of everybody whose keys are in this one."""
    places = [*config.folder.glob("node-*"), *config.folder.glob("client-*")]
    return sorted(place for place in places if _has_keys(place))


def _has_keys(place: Path) -> bool:
    with contextlib.suppress(ConfigError):
        who_of(place)
        return (place / certificates.IDENTITY_KEY).is_file()
    return False
