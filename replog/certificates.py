"""Keys and certificates as files: the cluster's own authority, identities, and who is at the other end of a link.

An identity is a replica (`int`) or a client (`str`). Its Ed25519 key signs what it says; a second key of its own, under
a certificate of the cluster's authority, proves it on a link. The certificate binds cluster and identity in one name,
`replog:CLUSTER:node:3` or `replog:CLUSTER:client:cli`, and both ends of a link compare it whole.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from replog.errors import ConfigError
from replog.keys import Ed25519Signer
from replog.types import Principal

SIZE = x509.ObjectIdentifier("2.25.301894027184512306611027713502219934721")
"""An extension of identity certificates: n and f of the cluster, as text."""
EVIDENCE = x509.ObjectIdentifier("2.25.301894027184512306611027713502219934722")
"""The one use of an identity certificate: no link takes it."""
_STRANGE = (UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion, x509.UnsupportedGeneralNameType)
"""What the library says of certificates that are well formed, and of which no cluster makes any."""
LIFETIME = datetime.timedelta(days=3650)
CLOCK_SKEW = datetime.timedelta(days=1)
IDENTITY_KEY, LINK_KEY, LINK_CERTIFICATE = "key.pem", "tls.key", "tls.pem"
"""Of one identity, in its folder."""


class Authority:
    """Makes identities of one cluster. Holds the only key that can."""

    def __init__(self, folder: Path, cluster: str, key: Ed25519PrivateKey, certificate: x509.Certificate) -> None:
        self._folder = folder
        self._cluster = cluster
        self._key = key
        self._certificate = certificate

    @classmethod
    def make(cls, folder: Path, cluster: str) -> Authority:
        """A new authority; writes ca.pem and ca.key to `folder`."""
        key = Ed25519PrivateKey.generate()
        name = _name(f"replog cluster {cluster}")
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = _builder(name, name, key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        builder = builder.add_extension(own, critical=False)
        certificate = builder.add_extension(_key_usage(signs_certificates=True), critical=True).sign(key, None)
        write_new(folder / "ca.key", _pem_of(key))
        write_new(folder / "ca.pem", certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)
        return cls(folder, cluster, key, certificate)

    @classmethod
    def load(cls, folder: Path, cluster: str) -> Authority:
        """The authority whose key lies in `folder`. Raises ConfigError."""
        try:
            certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigError(f"{folder / 'ca.pem'}: {getattr(error, 'strerror', None) or error}") from None
        return cls(folder, cluster, _load_key(folder / "ca.key"), certificate)

    def enroll(self, folder: Path, who: Principal) -> str:
        """Make keys and certificate of `who` in `folder`; the public identity key in hex."""
        folder.mkdir(mode=0o700)
        public = make_keys(folder)
        write_new(folder / LINK_CERTIFICATE, self.certify_link(who, public.link).encode(), mode=0o644)
        return public.identity

    def certify_link(
        self,
        who: Principal,
        link_key: str,
        lifetime: datetime.timedelta = LIFETIME,
        hosts: Sequence[str] = (),
    ) -> str:
        """A certificate (PEM) under which `who` has links. `hosts`: names and addresses under which it also serves
        those who know hosts alone (a gateway's HTTPS)."""
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(link_name(self._cluster, who))]
        names += [_host_name(host) for host in hosts]
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(link_key))
        uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            _builder(_name(f"replog {who}"[:64]), self._certificate.subject, key, lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(uses, critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(issuer, critical=False)
            .sign(self._key, None)
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode()

    def certify(self, who: Principal, public_key: str, n: int, f: int) -> str:
        """A certificate (PEM) of an identity key, for those who are shown what it has signed. It says the size of the
        cluster too, on which some evidence rests."""
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        name = x509.UniformResourceIdentifier(link_name(self._cluster, who))
        certificate = (
            _builder(_name(f"replog identity {who}"[:64]), self._certificate.subject, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([EVIDENCE]), critical=True)
            .add_extension(x509.SubjectAlternativeName([name]), critical=False)
            .add_extension(x509.UnrecognizedExtension(SIZE, f"{n} {f}".encode()), critical=False)
            .sign(self._key, None)
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Ed25519PublicKey, lifetime: datetime.timedelta = LIFETIME
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + lifetime)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


# ------------------------------------------------------------------------------------------------- identity keys


@dataclass(frozen=True)
class Identity:
    """What an authority says of an identity key: whose it is, in a cluster of n replicas of which f may lie."""

    who: Principal
    public_key: bytes
    n: int
    f: int

    @property
    def is_first(self) -> bool:
        """Whether it can have said anything in epoch 0: a client, or one of the first members."""
        return isinstance(self.who, str) or self.who < self.n


def identity_of(pem: str, authority: str, cluster: str) -> Identity:
    """What the certificate `pem` says, which must be the authority's and for this cluster. Raises ValueError."""
    root, certificate = _load_certificate(authority), _load_certificate(pem)
    try:
        return _identity_of(certificate, root, cluster)
    except _STRANGE:
        raise ValueError("a certificate is of a kind that no cluster makes") from None


def _identity_of(certificate: x509.Certificate, root: x509.Certificate, cluster: str) -> Identity:
    _check_issued(root, certificate)
    try:
        if not root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            raise ValueError("the authority's certificate is none of an authority")
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        size = certificate.extensions.get_extension_for_oid(SIZE).value
    except x509.ExtensionNotFound as error:
        raise ValueError(f"a certificate lacks {error.oid}") from None
    who = _peer(cluster, [str(name) for name in names.get_values_for_type(x509.UniformResourceIdentifier)])
    key = certificate.public_key()
    if who is None or EVIDENCE not in uses or not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"a certificate is not of an identity of cluster {cluster}")
    numbers = size.value.split() if isinstance(size, x509.UnrecognizedExtension) else []
    if len(numbers) != 2 or not all(number.isdigit() and len(number) < 5 for number in numbers):
        raise ValueError("a certificate does not tell the size of the cluster")
    return Identity(who, key.public_bytes_raw(), int(numbers[0]), int(numbers[1]))


def _check_issued(root: x509.Certificate, certificate: x509.Certificate) -> None:
    try:
        root.verify_directly_issued_by(root)
        certificate.verify_directly_issued_by(root)
    except (InvalidSignature, TypeError, ValueError):
        raise ValueError("a certificate is not signed by the authority in the file") from None


def fingerprint(authority: str) -> str:
    """SHA-256 of the certificate of an authority, in hex. Raises ValueError."""
    return _load_certificate(authority).fingerprint(hashes.SHA256()).hex()


def split(text: str) -> list[str]:
    """The certificates of a PEM file, one by one."""
    end = "-----END CERTIFICATE-----\n"
    return [part + end for part in text.split(end) if part.strip()]


def _load_certificate(pem: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except (ValueError, *_STRANGE):
        raise ValueError("a certificate cannot be read") from None


# ------------------------------------------------------------------------------------------------------------ files


def _pem_of(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write_new(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file that must not exist yet, with these permissions from its first byte on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def make_key(folder: Path, name: str = IDENTITY_KEY) -> str:
    """A new key in `folder`/`name`, by default an identity's; its public half in hex."""
    key = Ed25519PrivateKey.generate()
    write_new(folder / name, _pem_of(key))
    return key.public_key().public_bytes_raw().hex()


@dataclass(frozen=True)
class PublicKeys:
    """The public halves, in hex, of what signs and of what proves an identity on links."""

    identity: str
    link: str


def make_keys(folder: Path) -> PublicKeys:
    """Both keys of an identity, new, in `folder`."""
    return PublicKeys(make_key(folder, IDENTITY_KEY), make_key(folder, LINK_KEY))


def _load_key(path: Path) -> Ed25519PrivateKey:
    """A private key that nobody else can read. Raises ConfigError."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise ConfigError(f"{path}: others can read this key (mode {mode:04o}); mend it with: chmod 600 {path}")
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path}: must be an Ed25519 key, is {type(key).__name__}")
    return key


def load_signer(folder: Path, name: str = IDENTITY_KEY) -> Ed25519Signer:
    """The key in `folder`/`name`. Raises ConfigError if it is missing, damaged or readable by others."""
    return Ed25519Signer(_load_key(folder / name).private_bytes_raw())


# ------------------------------------------------------------------------------------------------------------ links


def link_name(cluster: str, who: Principal) -> str:
    """The one name that a certificate binds: cluster, kind and identity."""
    return f"replog:{cluster}:node:{who}" if isinstance(who, int) else f"replog:{cluster}:client:{who}"


def tls_context(ca: Path, folder: Path, *, server: bool) -> ssl.SSLContext:
    """Mutual TLS 1.3 under the cluster's authority alone. Raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # hosts move; the name in the certificate is compared by `peer_of`
    context.verify_mode = ssl.CERT_REQUIRED
    if server:
        context.num_tickets = 0  # links last; a resumed session would skip the certificate
    _load_key(folder / "tls.key")
    try:
        context.load_verify_locations(ca)
        context.load_cert_chain(folder / "tls.pem", folder / "tls.key")
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{folder}: link certificate: {error}") from None
    return context


def check_link_certificate(cluster: str, folder: Path, who: Principal) -> None:
    """Raise ConfigError unless `folder`/tls.pem is the certificate of `who`: the others would refuse its links."""
    path, wanted = folder / "tls.pem", link_name(cluster, who)
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    found = names.get_values_for_type(x509.UniformResourceIdentifier)
    if found != [wanted]:
        raise ConfigError(f"{path}: is the certificate of {', '.join(found) or 'nobody'}, must be that of {wanted}")


def link_of(pem: str, cluster: str) -> tuple[Principal | None, bytes]:
    """Whom a certificate of links names, None if nobody of this cluster, and its public key. Raises ConfigError."""
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound, *_STRANGE):
        raise ConfigError("this is no certificate of links") from None
    key = certificate.public_key()
    who = _peer(cluster, [str(name) for name in names.get_values_for_type(x509.UniformResourceIdentifier)])
    return who, key.public_bytes_raw() if isinstance(key, Ed25519PublicKey) else b""


def ends(path: Path) -> datetime.datetime:
    """When the certificate in this file ends. Raises ConfigError."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


class LinkCertificate:
    """Key and certificate of one identity's links, which may be renewed while contexts are in use: links that stand
    stay, new ones begin under the new certificate.

    Invariant: every context has the same pair, one that belongs together and to `who`.
    """

    def __init__(self, cluster: str, ca: Path, folder: Path, who: Principal) -> None:
        """Raises ConfigError."""
        check_link_certificate(cluster, folder, who)
        self._cluster, self._ca, self._folder, self._who = cluster, ca, folder, who
        self.server = tls_context(ca, folder, server=True)
        self.client = tls_context(ca, folder, server=False)
        self._seen = self._mark()

    @property
    def ends(self) -> int:
        """Seconds since 1970. Raises ConfigError."""
        return int(ends(self._folder / LINK_CERTIFICATE).timestamp())

    def look(self) -> bool:
        """Whether there is another pair now, which is in use from here on. Raises ConfigError, once for each, for one
        that is not good; the old one stays in use."""
        if (mark := self._mark()) == self._seen:
            return False
        self._seen = mark
        check_link_certificate(self._cluster, self._folder, self._who)
        tls_context(self._ca, self._folder, server=True)  # what fails half-way would leave a context without its key
        for context in (self.server, self.client):
            try:
                context.load_cert_chain(self._folder / LINK_CERTIFICATE, self._folder / LINK_KEY)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(f"{self._folder}: link certificate: {error}") from None
        return True

    def _mark(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(_mark_of(self._folder / name) for name in (LINK_KEY, LINK_CERTIFICATE))


def _mark_of(path: Path) -> tuple[int, int] | None:
    """Another one for another file of this name."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def peer_of(cluster: str, certificate: Mapping[str, Any] | None) -> Principal | None:
    """Whom a verified certificate (as `getpeercert` gives it) names within `cluster`; None if nobody."""
    return _peer(cluster, [value for kind, value in (certificate or {}).get("subjectAltName", ()) if kind == "URI"])


def _peer(cluster: str, names: Sequence[str]) -> Principal | None:
    if len(names) != 1:
        return None
    kind, _, who = names[0].removeprefix(f"replog:{cluster}:").partition(":")
    peer: Principal = int(who) if kind == "node" and who.isascii() and who.isdigit() else who
    return peer if names[0] == link_name(cluster, peer) else None
