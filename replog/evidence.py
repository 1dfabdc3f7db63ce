"""Evidence as files: written by whoever sees a lie, checked by anybody, without a cluster and without trust in whoever
shows it.

A file holds the statements as they were signed, who is accused, and the certificates that bind keys to the cluster's
authority. Whether it proves anything is the protocol's to say (its spec's `convict`, where it has one); here is what
binds keys to names, and that what a file says beside that counts for nothing. Format: docs/formats.md.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Protocol, cast

import msgspec

from replog import archive as archives
from replog import certificates, protocols
from replog.codec import DIGEST_BYTES, FRAME_BYTES_MAX, BadMessage, Domain, digest_of
from replog.config import IDENTITIES, ClusterConfig
from replog.core import Accuse
from replog.enrolment import enrolled
from replog.errors import ReplogError
from replog.keys import Ed25519Verifier, Verifier
from replog.membership import EPOCHS_MAX, Configuration, Electorate, Link, follow, genesis
from replog.roster import Roster
from replog.types import Message, Micros, NodeId, Principal, WireName

FOLDER: Final = "evidence"
"""Below the folder of a node."""
FILES_MAX: Final = 1_024
"""Files that one node keeps."""
FILES_OF_ONE_MAX: Final = 64
"""Of them against one culprit: the rest would prove nothing new about it."""
FILE_BYTES_MAX: Final = 2 * FRAME_BYTES_MAX
CERTIFICATE_BYTES_MAX: Final = 512 * 1024 * 1024
"""A commit certificate comes with all NEW-VIEWs of an archive."""
NODES: Final = 1024
Pem = Annotated[str, msgspec.Meta(max_length=16_384)]
Number = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class NotProven(ReplogError):
    """This file convicts nobody; the text says why."""


class Portable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One piece of evidence. Only `statements`, `culprit`, `kind` and what the certificates bind them to is proved; who
    saw it, where and when are the word of whoever wrote the file."""

    format: Literal["replog-evidence/1"]
    protocol: WireName
    cluster: WireName
    epoch: Number
    kind: WireName
    culprit: Annotated[int, msgspec.Meta(ge=0, lt=NODES)] | WireName
    place: Annotated[str, msgspec.Meta(max_length=64)]
    statements: Annotated[list[bytes], msgspec.Meta(min_length=1, max_length=2)]
    seen_by: Annotated[int, msgspec.Meta(ge=-1, lt=NODES)]
    seen_us: Number
    agreed_us: Number
    authority: Pem = ""
    certificates: Annotated[list[Pem], msgspec.Meta(max_length=NODES)] = []
    genesis: Configuration | None = None
    links: Annotated[list[Link], msgspec.Meta(max_length=EPOCHS_MAX)] = []


Members = tuple[int, int] | Electorate
"""n and f of the first members, or who votes in a later epoch."""


class _Convicts(Protocol):
    def convict(
        self, accusation: Accuse, domain: Domain, verifier: Verifier, members: Members | None = None
    ) -> str: ...


@dataclass(frozen=True)
class Conviction:
    """What is proved: `text` in one sentence; `authority`: fingerprint of the one it is proved under, "" if keys were
    pinned without one."""

    culprit: Principal
    kind: str
    text: str
    authority: str


@dataclass(frozen=True)
class Pin:
    """What the examiner knows of the cluster beforehand: its authority's certificate (PEM), or all of it."""

    authority: str = ""
    config: ClusterConfig | None = None


NOTHING: Final = Pin()

# ---------------------------------------------------------------------------------------------------------- checking


def parse(data: bytes) -> Portable:
    """Raises NotProven for what is no evidence file."""
    try:
        return msgspec.json.decode(data, type=Portable)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NotProven(f"not an evidence file: {error}") from None


def verify(file: Portable, pin: Pin = NOTHING) -> Conviction:
    """Raises NotProven. Nothing is looked up anywhere: the file, and what is pinned."""
    convicts = _protocol(file.protocol)
    keys, members = _keys(file, pin)
    if file.culprit not in keys:
        raise NotProven(f"no certificate of {_name(file.culprit)} is in the file")
    accusation = accusation_of(file)
    try:
        domain = Domain(file.cluster, file.epoch)
        text = convicts.convict(accusation, domain, Ed25519Verifier(keys), members)
    except ValueError as error:
        raise NotProven(str(error)) from None
    authority = certificates.fingerprint(file.authority) if file.authority else ""
    return Conviction(file.culprit, file.kind, text, authority)


def accusation_of(file: Portable) -> Accuse:
    """The accusation in it, checked by nobody. Raises NotProven."""
    messages = [_message(file.protocol, raw) for raw in file.statements]
    second = messages[1] if len(messages) > 1 else None
    return Accuse(file.culprit, file.kind, messages[0], second, file.place, file.epoch)


def _message(protocol: str, raw: bytes) -> Message:
    codec = protocols.find(protocol).messages
    try:
        message: Message = codec.decode(raw)
    except BadMessage as error:
        raise NotProven(f"a statement cannot be read: {error}") from None
    if codec.encode(message) != raw:
        raise NotProven("a statement is not in its canonical encoding")
    return message


def _protocol(name: str) -> _Convicts:
    try:
        spec = protocols.find(name)
    except LookupError as error:
        raise NotProven(f"{error.args[0]}") from None
    if not hasattr(spec, "convict"):
        raise NotProven(f"{name}: its servers trust each other and sign nothing; nobody can be convicted")
    return cast("_Convicts", spec)


def _keys(file: Portable | Certificate, pin: Pin) -> tuple[dict[Principal, bytes], Members | None]:
    """Keys by name, and who the members of the file's epoch are, if the keys of all of them are among them."""
    keys, size = _first_keys(file, pin)
    if not file.epoch:
        return keys, size
    known, links = _chain(file, pin)
    if known is None or len(links) < file.epoch:
        return keys, None
    if pin.config is None and (size != (known.n, known.f) or not _is_first(known, keys)):
        raise NotProven("the first members in the file are not those of its certificates")
    try:
        members, voters = _electorate(file, known, links)
    except ValueError as error:
        raise NotProven(f"the links in the file do not lead to epoch {file.epoch}: {error}") from None
    if any(keys.get(node, key) != key for node, key in members.items()):
        raise NotProven(f"the file has another key of a member of epoch {file.epoch} than the links prove")
    return keys | members, voters


def _is_first(known: Configuration, keys: Mapping[Principal, bytes]) -> bool:
    """Not a later one with the same members: statements would be judged by the rules of another epoch."""
    certified = all(keys.get(node) == key for node, key in known.keys().items())
    return certified and known == genesis(known.f, known.members)


def _chain(file: Portable | Certificate, pin: Pin) -> tuple[Configuration | None, Sequence[Link]]:
    """The first members, and links from them: those of the examiner's own folder, where they lead far enough."""
    if pin.config is None:
        return file.genesis, file.links
    own = Roster(pin.config).links
    return pin.config.genesis, own if len(own) >= file.epoch else file.links


def _electorate(
    file: Portable | Certificate, known: Configuration, links: Sequence[Link]
) -> tuple[dict[Principal, bytes], Electorate]:
    """Keys of the members of the file's epoch, and who votes in it. Raises ValueError."""
    spec = protocols.find(file.protocol)
    certified = spec.client_rules(known.n, known.f, spec.options({})).certified
    begins = 0, bytes(DIGEST_BYTES)

    def proved(known: Configuration, certificate: bytes) -> tuple[int, bytes]:
        nonlocal begins
        if certified is None:
            raise ValueError(f"{file.protocol} certifies no members")
        verifier = Ed25519Verifier(known.keys())
        begins = certified(Domain(file.cluster, known.epoch), verifier, known, certificate)
        return begins

    for link in links[: file.epoch]:
        known = follow(known, link, proved)
    return known.keys(), Electorate(known.ids, known.f, begins)


def _first_keys(file: Portable | Certificate, pin: Pin) -> tuple[dict[Principal, bytes], tuple[int, int] | None]:
    """Keys by name, and n and f of the first members if the keys of all of them are among them."""
    if pin.authority and pin.authority.strip() != file.authority.strip():
        raise NotProven("the file is of another authority than the one that is pinned")
    known = _identities(file)
    keys = {one.who: one.public_key for one in known}
    if pin.config is not None:
        config = pin.config
        if config.cluster != file.cluster or config.protocol != file.protocol:
            raise NotProven(f"the file is of cluster {file.cluster}, not of {config.cluster}")
        configured = config.public_keys()
        later = {who: key for who, key in keys.items() if isinstance(who, int) and who >= config.n}
        if any(configured.get(who) != key for who, key in keys.items() if who not in later):
            raise NotProven("a certificate in the file is of another key than cluster.toml has")
        return configured | later, (config.n, config.f)
    if not known:
        raise NotProven("the file has no certificates; name the cluster that its keys belong to (--cluster DIR)")
    return keys, _members(known)


def _identities(file: Portable | Certificate) -> list[certificates.Identity]:
    try:
        known = [certificates.identity_of(pem, file.authority, file.cluster) for pem in file.certificates]
    except ValueError as error:
        raise NotProven(str(error)) from None
    if len({one.who for one in known}) != len(known) or len({(one.n, one.f) for one in known}) > 1:
        raise NotProven("the certificates do not fit together")
    return known


def _members(known: Sequence[certificates.Identity]) -> tuple[int, int] | None:
    n, f = known[0].n, known[0].f
    nodes = {one.who for one in known if isinstance(one.who, int)}
    return (n, f) if nodes >= set(range(n)) else None


def _name(culprit: Principal) -> str:
    return f"node {culprit}" if isinstance(culprit, int) else f"client {culprit}"


# ------------------------------------------------------------------------------------------------------- after a fork


class Certificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one side of a fork can show for one seq: its commit certificate, and the views that it has seen begin."""

    format: Literal["replog-certificate/1"]
    protocol: WireName
    cluster: WireName
    epoch: Number
    seq: Number
    proof: bytes
    new_views: list[bytes] = []
    authority: Pem = ""
    certificates: Annotated[list[Pem], msgspec.Meta(max_length=NODES)] = []
    genesis: Configuration | None = None
    links: Annotated[list[Link], msgspec.Meta(max_length=EPOCHS_MAX)] = []


def read_certificate(path: Path) -> Certificate:
    """Raises NotProven."""
    try:
        if path.stat().st_size > CERTIFICATE_BYTES_MAX:
            raise NotProven(f"{path}: not a commit certificate: more than {CERTIFICATE_BYTES_MAX} bytes")
        return msgspec.json.decode(path.read_bytes(), type=Certificate)
    except OSError as error:
        raise NotProven(f"{path}: cannot be read: {error.strerror or error}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NotProven(f"{path}: not a commit certificate: {error}") from None


def certificate_of(origin: Origin, archive: Path, seq: int) -> Certificate:
    """What the archive of a node has for `seq`. Raises NotProven and BadArchive."""
    archived = [_bare(record) for record in _archived(origin.protocol, archive)]
    found = [each for each in archived if getattr(each[1], "seq", None) == seq and _is(each[1], "CommitProof")]
    if not found:
        raise NotProven(f"{archive}: has no commit certificate for seq {seq}")
    epoch, proof = found[-1]
    records = [record for of, record in archived if of == epoch]
    nodes = [pem for who, pem in origin.certificates.items() if isinstance(who, int)]
    return Certificate(
        format="replog-certificate/1",
        protocol=origin.protocol,
        cluster=origin.cluster,
        epoch=epoch,
        seq=seq,
        proof=msgspec.msgpack.encode(proof),
        new_views=[msgspec.msgpack.encode(record) for record in records if _is(record, "NewView")],
        authority=origin.authority,
        certificates=nodes,
        genesis=origin.genesis if epoch else None,
        links=list(origin.links[:epoch]),
    )


def _bare(record: Message) -> tuple[int, Message]:
    """A record with its epoch: one of a later epoch says so around it."""
    return getattr(record, "epoch", 0), getattr(record, "message", record)


def blame(archive: Path, certificate: Certificate, pin: Pin = NOTHING) -> Any:
    """A `pbft.blame.Blame`. Raises NotProven and BadArchive."""
    spec: Any = _protocol(certificate.protocol)
    keys, members = _keys(certificate, pin)
    if members is None:
        raise NotProven("the keys of all members are not known; name the cluster (--cluster DIR)")
    head, _ = archives.read(archive)
    if head.get("cluster") != certificate.cluster:
        raise NotProven(f"the archive is of cluster {head.get('cluster')}, not of {certificate.cluster}")
    said = [_message_or_record(certificate.protocol, raw) for raw in (certificate.proof, *certificate.new_views)]
    domain = Domain(certificate.cluster, certificate.epoch)
    records = _archived(certificate.protocol, archive)
    try:
        return spec.blame(records, said[0], said[1:], domain, Ed25519Verifier(keys), members)
    except ValueError as error:
        raise NotProven(str(error)) from None


def _archived(protocol: str, archive: Path) -> list[Message]:
    return [_message_or_record(protocol, raw) for raw in archives.read(archive)[1]]


def _message_or_record(protocol: str, raw: bytes) -> Message:
    try:
        record: Message = protocols.find(protocol).records.decode(raw)
    except BadMessage as error:
        raise NotProven(f"a record cannot be read: {error}") from None
    return record


def _is(record: Message, name: str) -> bool:
    return type(record).__name__ == name


# ------------------------------------------------------------------------------------------------------------ making


@dataclass(frozen=True)
class Origin:
    """What evidence of one cluster has in common. Without certificates whoever checks it has to know the keys."""

    protocol: str
    cluster: str
    authority: str = ""
    certificates: Mapping[Principal, str] = field(default_factory=dict)
    genesis: Configuration | None = None
    links: Sequence[Link] = ()
    config: ClusterConfig | None = None
    """Where to look again, since members change."""

    @classmethod
    def of(cls, config: ClusterConfig) -> Origin:
        """What lies in the cluster's folder; one that was made before there were such certificates has none."""
        authority, found = config.folder / "ca.pem", config.folder / IDENTITIES
        if not authority.is_file() or not found.is_file():
            return cls(config.protocol, config.cluster)
        pems = certificates.split(found.read_text())
        names = [*range(config.n), *(client.name for client in config.clients)]
        by_name: dict[Principal, str] = dict(zip(names, pems, strict=False))
        for pem in pems[len(names) :]:  # of replicas that joined later
            by_name[certificates.identity_of(pem, authority.read_text(), config.cluster).who] = pem
        links = Roster(config).links
        return cls(config.protocol, config.cluster, authority.read_text(), by_name, config.genesis, links, config)

    def make(self, accusation: Accuse, seen_by: NodeId, seen_us: Micros, agreed_us: Micros) -> Portable:
        if accusation.epoch > len(self.links) and self.config is not None:
            return replace(Origin.of(self.config), config=None).make(accusation, seen_by, seen_us, agreed_us)
        said = (accusation.first, accusation.second)
        return Portable(
            format="replog-evidence/1",
            protocol=self.protocol,
            cluster=self.cluster,
            epoch=accusation.epoch,
            kind=accusation.kind,
            culprit=accusation.culprit,
            place=accusation.place,
            statements=[msgspec.msgpack.encode(message) for message in said if message is not None],
            seen_by=seen_by,
            seen_us=seen_us,
            agreed_us=agreed_us,
            authority=self.authority,
            certificates=self._needed(accusation),
            genesis=self.genesis if accusation.epoch and accusation.second is None else None,
            links=list(self.links[: accusation.epoch]) if accusation.second is None else [],
        )

    def _needed(self, accusation: Accuse) -> list[str]:
        """The culprit's, and for a message that is wrong in itself those of all nodes."""
        whose = [accusation.culprit]
        if accusation.second is None:
            whose = [who for who in self.certificates if isinstance(who, int)]
        return [self.certificates[who] for who in whose if who in self.certificates]


def encode(file: Portable | Certificate) -> bytes:
    """JSON, indented; bytes are base64."""
    return msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n"


class EvidenceFolder:
    """What one node has seen, as files.

    Invariants:
      at most one file for each culprit, kind and place; at most FILES_OF_ONE_MAX a culprit, FILES_MAX in all
      a file is whole and on disk, or not there
    """

    def __init__(self, folder: Path, origin: Origin, node: NodeId) -> None:
        self._folder = folder
        self._origin = origin
        self._node = node

    def add(self, accusation: Accuse, seen_us: Micros, agreed_us: Micros) -> Path | None:
        """The new file; None if there is one for this already, or there are enough. Raises OSError."""
        path = self._folder / _file_name(accusation)
        known = [path.name for path in self._folder.glob("*.json")]
        of_it = [name for name in known if name.startswith(f"{accusation.culprit}-")]
        if path.name in known or len(of_it) >= FILES_OF_ONE_MAX or len(known) >= FILES_MAX:
            return None
        self._folder.mkdir(mode=0o700, exist_ok=True)
        _write(path, encode(self._origin.make(accusation, self._node, seen_us, agreed_us)))
        return path


def _file_name(accusation: Accuse) -> str:
    what = repr((accusation.culprit, accusation.kind, accusation.place)).encode()
    return f"{accusation.culprit}-{accusation.kind}-{digest_of(what)[:6].hex()}.json"


def _write(path: Path, data: bytes) -> None:
    aside = path.with_suffix(f".{secrets.token_hex(4)}.part")
    try:
        certificates.write_new(aside, data)
        aside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        with contextlib.suppress(FileNotFoundError):
            aside.unlink()


def read(path: Path) -> Portable:
    """Raises NotProven, also for a file that cannot be read."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise NotProven(f"not an evidence file: more than {FILE_BYTES_MAX} bytes")
        return parse(path.read_bytes())
    except OSError as error:
        raise NotProven(f"cannot be read: {error.strerror or error}") from None


def kept(config: ClusterConfig) -> list[tuple[Path, Any]]:
    """The files of all nodes in the cluster's folder; for each what is in it, or why nothing is (a NotProven)."""
    found: list[tuple[Path, Any]] = []
    for node in enrolled(config):
        for path in sorted((config.node_folder(node) / FOLDER).glob("*.json")):
            try:
                found.append((path, read(path)))
            except NotProven as error:
                found.append((path, error))
    return found
