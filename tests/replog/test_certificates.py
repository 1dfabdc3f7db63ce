"""Keys and certificates: who can read them, whom they name, and who is refused on a link."""

import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID

from replog import certificates
from replog.certificates import Authority, identity_of, link_name, load_signer, peer_of, tls_context, write_new
from replog.errors import ConfigError

CLUSTER = "ab" * 16


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.make(tmp_path, CLUSTER)


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """TLS between two ends in memory. Raises ssl.SSLError if one of them refuses."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = server.wrap_bio(to_server, to_client, server_side=True), client.wrap_bio(to_client, to_server)
    for _ in range(4):
        for end in reversed(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends


def contexts(root: Path, server: str, other: Path, client: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return (
        tls_context(root / "ca.pem", root / server, server=True),
        tls_context(other / "ca.pem", other / client, server=False),
    )


def test_a_key_signs_under_the_public_key_that_was_given(authority: Authority, tmp_path: Path) -> None:
    public = authority.enroll(tmp_path / "node-3", 3)
    signer = load_signer(tmp_path / "node-3")
    assert signer.public.hex() == public
    Ed25519PublicKey.from_public_bytes(signer.public).verify(signer.sign(b"said"), b"said")


def test_private_keys_are_for_their_owner_alone(authority: Authority, tmp_path: Path) -> None:
    authority.enroll(tmp_path / "node-0", 0)
    for name in ("ca.key", "node-0/key.pem", "node-0/tls.key"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    (tmp_path / "node-0" / "key.pem").chmod(0o640)
    with pytest.raises(ConfigError, match=r"mode 0640.*chmod 600"):
        load_signer(tmp_path / "node-0")


def test_a_damaged_or_missing_key_is_one_clear_line(authority: Authority, tmp_path: Path) -> None:
    authority.enroll(tmp_path / "node-0", 0)
    with pytest.raises(ConfigError, match=r"node-1/key\.pem: .*No such file"):
        load_signer(tmp_path / "node-1")
    (tmp_path / "node-0" / "key.pem").write_text("no key")
    with pytest.raises(ConfigError, match=r"node-0/key\.pem"):
        load_signer(tmp_path / "node-0")


def test_files_are_never_overwritten(tmp_path: Path) -> None:
    write_new(tmp_path / "key", b"first")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "key", b"second")


def test_both_ends_of_a_link_learn_each_others_name(authority: Authority, tmp_path: Path) -> None:
    authority.enroll(tmp_path / "node-0", 0)
    authority.enroll(tmp_path / "client-cli", "cli")
    server, client = handshake(*contexts(tmp_path, "node-0", tmp_path, "client-cli"))
    assert server.version() == "TLSv1.3"
    assert peer_of(CLUSTER, server.getpeercert()) == "cli"
    assert peer_of(CLUSTER, client.getpeercert()) == 0


def test_a_certificate_of_another_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    authority.enroll(tmp_path / "node-0", 0)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    Authority.make(foreign, CLUSTER).enroll(foreign / "node-1", 1)
    with pytest.raises(ssl.SSLError):
        handshake(*contexts(tmp_path, "node-0", foreign, "node-1"))


def test_no_certificate_is_refused(authority: Authority, tmp_path: Path) -> None:
    authority.enroll(tmp_path / "node-0", 0)
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.load_verify_locations(tmp_path / "ca.pem")
    with pytest.raises(ssl.SSLError):
        handshake(tls_context(tmp_path / "ca.pem", tmp_path / "node-0", server=True), bare)


def test_a_member_cannot_make_certificates(authority: Authority, tmp_path: Path) -> None:
    authority.enroll(tmp_path / "node-0", 0)
    certificate = x509.load_pem_x509_certificate((tmp_path / "node-0" / "tls.pem").read_bytes())
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


KEY = "11" * 32


def test_a_certificate_of_another_use_is_none_of_an_identity(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the same authority, in the same name: what is made for links binds no key that signs statements."""
    root = (tmp_path / "ca.pem").read_text()
    assert identity_of(authority.certify(0, KEY, 4, 1), root, CLUSTER).who == 0
    monkeypatch.setattr(certificates, "EVIDENCE", ExtendedKeyUsageOID.CLIENT_AUTH)
    link = authority.certify(0, KEY, 4, 1)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="not of an identity of cluster"):
        identity_of(link, root, CLUSTER)


def test_who_is_no_authority_certifies_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signed by itself, but not for signing certificates."""
    plain = x509.BasicConstraints(ca=False, path_length=None)
    monkeypatch.setattr(x509, "BasicConstraints", lambda **_: plain)
    pem = Authority.make(tmp_path, CLUSTER).certify(0, KEY, 4, 1)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="none of an authority"):
        identity_of(pem, (tmp_path / "ca.pem").read_text(), CLUSTER)


def san(*names: str) -> dict[str, object]:
    return {"subjectAltName": tuple(("URI", name) for name in names)}


@pytest.mark.parametrize(
    "certificate",
    [
        None,
        {},
        san(),
        san(link_name("cd" * 16, 1)),
        san(link_name(CLUSTER, 1), link_name(CLUSTER, 2)),
        san(f"replog:{CLUSTER}:node:01"),
        san(f"replog:{CLUSTER}:node:-1"),
        san(f"replog:{CLUSTER}:node:x"),
        san(f"replog:{CLUSTER}:node:\u0661"),
        san(f"replog:{CLUSTER}:king:1"),
        san(f"x:replog:{CLUSTER}:node:1"),
        {"subjectAltName": (("DNS", link_name(CLUSTER, 1)),)},
    ],
)
def test_a_name_that_is_not_exactly_one_of_this_cluster_is_nobody(certificate: dict[str, object] | None) -> None:
    assert peer_of(CLUSTER, certificate) is None


def test_the_name_tells_a_node_from_a_client_of_that_name() -> None:
    assert peer_of(CLUSTER, san(link_name(CLUSTER, 7))) == 7
    assert peer_of(CLUSTER, san(link_name(CLUSTER, "7"))) == "7"
