"""Evidence files: what they prove, under which authority, and that nothing else in them counts."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from hypothesis import given
from hypothesis import strategies as st

from pbft import SPEC
from pbft.messages import MESSAGES as PBFT
from pbft.messages import Commit, CommitProof, NewView, Prepare, PrePrepare, Vote, new_view_digest
from replog import cli, evidence
from replog.archive import Archive, read, segments
from replog.certificates import Authority, load_signer
from replog.codec import Domain
from replog.config import IDENTITIES, ClusterConfig, create_cluster
from replog.core import Accuse
from replog.evidence import EvidenceFolder, NotProven, Origin, Pin, Portable, parse, verify
from replog.keys import Ed25519Signer

ONE, TWO = b"1" * 32, b"2" * 32


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ClusterConfig:
    return create_cluster(tmp_path_factory.mktemp("clusters") / "one", "pbft", f=1)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> ClusterConfig:
    return create_cluster(tmp_path_factory.mktemp("clusters") / "two", "pbft", f=1)


def sign(config: ClusterConfig, node: int, kind: str, fields: Any) -> bytes:
    return load_signer(config.node_folder(node)).sign(config.domain.statement(kind, fields))


def pre_prepare(config: ClusterConfig, node: int, seq: int, digest: bytes) -> PrePrepare:
    return PrePrepare(node, seq, digest, sign(config, node, "pre-prepare", (node, seq, digest)), 0, [])


def lie(config: ClusterConfig, node: int = 0, seq: int = 7) -> Accuse:
    said = (pre_prepare(config, node, seq, ONE), pre_prepare(config, node, seq, TWO))
    return Accuse(node, "two-pre-prepares", *said, f"{node}.{seq}")


def bad_new_view(config: ClusterConfig) -> Accuse:
    """A NEW-VIEW for view 1 that rests on nothing."""
    unsigned = NewView(1, [], [], b"")
    signature = sign(config, 1, "new-view", (1, new_view_digest(unsigned)))
    return Accuse(1, "flawed-new-view", NewView(1, [], [], signature), place="1.0")


def made(config: ClusterConfig, accusation: Accuse) -> bytes:
    return evidence.encode(Origin.of(config).make(accusation, 2, 1_700_000_000_000_000, 5))


def changed(data: bytes, **values: Any) -> bytes:
    return json.dumps(json.loads(data) | values).encode()


def why(data: bytes, pin: Pin = evidence.NOTHING) -> str:
    with pytest.raises(NotProven) as reason:
        verify(parse(data), pin)
    return str(reason.value)


# ------------------------------------------------------------------------------------------------------------- proofs


def test_a_file_alone_names_the_culprit_and_what_it_did(config: ClusterConfig) -> None:
    found = verify(parse(made(config, lie(config))))
    assert (found.culprit, found.kind) == (0, "two-pre-prepares")
    assert "node 0 signed two different statements for view 0, seq 7" in found.text
    assert len(found.authority) == 64


def test_it_can_be_pinned_to_an_authority_or_a_cluster(config: ClusterConfig, other: ClusterConfig) -> None:
    data = made(config, lie(config))
    assert verify(parse(data), Pin((config.folder / "ca.pem").read_text())).culprit == 0
    assert verify(parse(data), Pin(config=config)).culprit == 0
    assert "another authority" in why(data, Pin((other.folder / "ca.pem").read_text()))
    assert "not of" in why(data, Pin(config=other))


def test_a_pin_is_of_a_protocol_too(config: ClusterConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that signs the same words: an id of a cluster is not enough."""
    data = changed(made(config, lie(config)), protocol="other")
    monkeypatch.setattr(evidence.protocols, "find", lambda name: SPEC)
    assert verify(parse(data)).culprit == 0
    assert f"of cluster {config.cluster} (other), not of {config.cluster} (pbft)" in why(data, Pin(config=config))


def test_a_message_that_is_wrong_in_itself_takes_all_members(config: ClusterConfig) -> None:
    data = made(config, bad_new_view(config))
    file = json.loads(data)
    assert len(file["certificates"]) == config.n
    assert "V must be view-changes of 3 distinct replicas" in verify(parse(data)).text
    fewer = changed(data, certificates=file["certificates"][:3])
    assert "keys of all members" in why(fewer)


def test_without_certificates_the_cluster_must_be_known(config: ClusterConfig) -> None:
    data = changed(made(config, lie(config)), certificates=[], authority="")
    assert "--cluster" in why(data)
    assert verify(parse(data), Pin(config=config)).culprit == 0


def test_an_older_cluster_writes_files_without_certificates(config: ClusterConfig, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "cluster.toml").write_text((config.folder / "cluster.toml").read_text())
    assert not (folder / IDENTITIES).exists()
    assert Origin.of(ClusterConfig.load(folder)).make(lie(config), 2, 0, 0).certificates == []


# ------------------------------------------------------------------------------------------------------- what is none


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda file: {"culprit": 1}, "no certificate of node 1"),
        (lambda file: {"kind": "two-commits"}, "no two-commits"),
        (lambda file: {"epoch": 1}, "did not sign"),
        (lambda file: {"cluster": "0" * 32}, "not of an identity of cluster"),
        (lambda file: {"protocol": "raft"}, "nobody can be convicted"),
        (lambda file: {"protocol": "paxos"}, "no protocol 'paxos'"),
        (lambda file: {"statements": file["statements"][:1]}, "takes two statements"),
        (lambda file: {"statements": [file["statements"][0]] * 2}, "may say both"),
        (lambda file: {"statements": [base64.b64encode(b"x").decode()] * 2}, "cannot be read"),
        (lambda file: {"certificates": file["certificates"] * 2}, "do not fit together"),
        (lambda file: {"certificates": ["nonsense"]}, "cannot be read"),
        (lambda file: {"authority": file["certificates"][0]}, "not signed by the authority"),
        (lambda file: {"format": "replog-evidence/2"}, "not an evidence file"),
        (lambda file: {"more": 1}, "not an evidence file"),
        (lambda file: {"culprit": -1}, "not an evidence file"),
        (lambda file: {"statements": []}, "not an evidence file"),
    ],
)
def test_what_was_changed_proves_nothing(config: ClusterConfig, change: Callable[[Any], Any], reason: str) -> None:
    data = made(config, lie(config))
    with pytest.raises(NotProven, match=reason):
        verify(parse(changed(data, **change(json.loads(data)))))


def test_a_foreign_authority_certifies_no_key_of_this_cluster(config: ClusterConfig, other: ClusterConfig) -> None:
    """Whoever makes a cluster of the same name is told apart by the fingerprint, and by a pin."""
    mine, theirs = json.loads(made(config, lie(config))), json.loads(made(other, lie(other)))
    mixed = changed(made(config, lie(config)), certificates=theirs["certificates"])
    assert "not signed by the authority" in why(mixed)
    assert verify(parse(json.dumps(mine).encode())).authority != verify(parse(json.dumps(theirs).encode())).authority


def signed_by(key: Ed25519Signer, config: ClusterConfig, node: int) -> Accuse:
    """Two votes in the name of a node, in epoch 0."""
    domain = config.domain
    fields = [(0, 7, digest, node) for digest in (ONE, TWO)]
    said = [Prepare(0, 7, each[2], node, key.sign(domain.statement("prepare", each))) for each in fields]
    return Accuse(node, "two-prepares", *said, "0.7")


def test_a_certificate_of_another_key_than_the_cluster_has_proves_nothing(tmp_path: Path) -> None:
    """By whoever has stolen the authority's key."""
    config = create_cluster(tmp_path / "c", "pbft", f=1)
    authority, mine = Authority.load(config.folder, config.cluster), Ed25519Signer(b"f" * 32)
    odd = authority.certify(0, mine.public.hex(), config.n, config.f)
    for accusation in (lie(config), signed_by(mine, config, 0)):
        data = changed(made(config, accusation), certificates=[odd])
        assert "of another key than cluster.toml has" in why(data, Pin(config=config))


def test_certificates_tell_one_size_of_the_cluster(config: ClusterConfig) -> None:
    """What is wrong in itself rests on n and f."""
    data, key = made(config, lie(config)), load_signer(config.node_folder(1)).public.hex()
    odd = Authority.load(config.folder, config.cluster).certify(1, key, 7, 2)
    assert "do not fit together" in why(changed(data, certificates=[*json.loads(data)["certificates"], odd]))


def test_a_statement_has_one_encoding(config: ClusterConfig) -> None:
    """The same words in longer bytes are no second statement, and no file of another name."""
    data = made(config, lie(config))
    first, second = (base64.b64decode(text) for text in json.loads(data)["statements"])
    longer = first.replace(b"\x00\x07", b"\x00\xcc\x07", 1)
    assert PBFT.decode(longer) == PBFT.decode(first), "view 0, seq 7"
    statements = [base64.b64encode(raw).decode() for raw in (longer, second)]
    assert "canonical encoding" in why(changed(data, statements=statements))


def test_who_joined_later_is_known_by_no_authority_that_a_file_brings(tmp_path: Path) -> None:
    """An authority of the forger's own, and one who has stolen the cluster's."""
    config = create_cluster(tmp_path / "c", "pbft", f=1)
    forger, mine = Authority.make(tmp_path, config.cluster), Ed25519Signer(b"f" * 32)
    data = made(config, signed_by(mine, config, 4))
    forged = changed(
        data,
        authority=(tmp_path / "ca.pem").read_text(),
        certificates=[forger.certify(4, mine.public.hex(), config.n, config.f)],
    )
    assert "another authority" in why(forged, Pin(config=config))
    stolen = Authority.load(config.folder, config.cluster).certify(4, mine.public.hex(), config.n, config.f)
    for epoch in (0, 1):
        file = changed(data, certificates=[stolen], epoch=epoch)
        assert "no certificate of node 4" in why(file, Pin(config=config)), "nobody knows this key"
    assert "no certificate of node 4" in why(changed(data, certificates=[stolen])), "no member in epoch 0"


def test_who_joined_later_is_known_by_no_certificate_where_no_links_are(tmp_path: Path) -> None:
    """The cluster's own authority is pinned, and stolen."""
    config = create_cluster(tmp_path / "c", "pbft", f=1)
    mine, domain = Ed25519Signer(b"f" * 32), Domain(config.cluster, 1, ONE)
    words = [
        PrePrepare(0, 300, digest, mine.sign(domain.statement("pre-prepare", (0, 300, digest))), 0, [])
        for digest in (ONE, TWO)
    ]
    data = made(config, Accuse(4, "two-pre-prepares", words[0], words[1], "0.300", 1, ONE))
    stolen = Authority.load(config.folder, config.cluster).certify(4, mine.public.hex(), config.n, config.f)
    for pin in (evidence.NOTHING, Pin((config.folder / "ca.pem").read_text())):
        for genesis in (None, json.loads(data)["genesis"]):
            file = changed(data, certificates=[stolen], links=[], genesis=genesis)
            assert "no certificate of node 4" in why(file, pin)


def test_a_link_certificate_is_none_of_an_identity(config: ClusterConfig) -> None:
    link = (config.node_folder(0) / "tls.pem").read_text()
    assert "a certificate" in why(changed(made(config, lie(config)), certificates=[link]))


@pytest.mark.parametrize("bit", [1, 4, 32])
def test_a_flipped_byte_of_a_certificate_proves_nothing_else(config: ClusterConfig, bit: int) -> None:
    """Algorithms, extensions and versions that nobody knows are among them, and a length that says the same."""
    data = json.loads(made(config, lie(config)))
    for field, text in (("authority", data["authority"]), ("certificates", data["certificates"][0])):
        der = base64.b64decode("".join(text.splitlines()[1:-1]))
        for place in range(len(der)):
            flipped = base64.encodebytes(bytes([*der[:place], der[place] ^ bit, *der[place + 1 :]])).decode()
            pem = f"-----BEGIN CERTIFICATE-----\n{flipped}-----END CERTIFICATE-----\n"
            bad = parse(json.dumps(data | {field: pem if field == "authority" else [pem]}).encode())
            with contextlib.suppress(NotProven):
                assert verify(bad).culprit == 0


@pytest.mark.parametrize("where", ["authority", "certificates"])
def test_a_certificate_of_a_strange_kind_proves_nothing(tmp_path: Path, where: str) -> None:
    """Of a key whose algorithm nobody knows: it is well formed, and so far from ours that the library gives up."""
    config = create_cluster(tmp_path / "c", "pbft", f=1)
    data = json.loads(made(config, lie(config)))
    text = data[where] if where == "authority" else data[where][0]
    der = base64.b64decode("".join(text.splitlines()[1:-1])).replace(b"\x2b\x65\x70", b"\x2b\x65\x77")
    pem = f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(der).decode()}-----END CERTIFICATE-----\n"
    odd = json.dumps(data | {where: pem if where == "authority" else [pem]}).encode()
    with pytest.raises((NotProven, UnsupportedAlgorithm)) as found:
        verify(parse(odd))
    assert isinstance(found.value, NotProven)


def test_an_authority_that_cannot_be_read_is_named_where_it_is_not_asked(
    config: ClusterConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = changed(made(config, lie(config)), certificates=[], authority="nonsense")
    assert "another authority" in why(data, Pin(config=config))
    monkeypatch.setattr(evidence, "authority_of", lambda config: "")  # of an older cluster
    assert "cannot be read" in why(data, Pin(config=config))


def test_every_flipped_byte_of_a_statement_is_noticed(config: ClusterConfig) -> None:
    data = made(config, lie(config))
    first, second = (base64.b64decode(text) for text in json.loads(data)["statements"])
    for place in range(len(first)):
        flipped = bytes([*first[:place], first[place] ^ 1, *first[place + 1 :]])
        statements = [base64.b64encode(raw).decode() for raw in (flipped, second)]
        file = parse(changed(data, statements=statements))
        try:
            accused = evidence.accusation_of(file).first
        except NotProven:
            continue
        if isinstance(accused, PrePrepare) and (accused.time, accused.requests) != (0, []):
            continue  # they travel beside what is signed, and say nothing
        with pytest.raises(NotProven):
            verify(file)


@given(st.binary(max_size=300))
def test_any_bytes_are_evidence_or_a_clear_word(data: bytes) -> None:
    with contextlib.suppress(NotProven):
        parse(data)


@given(
    statements=st.lists(st.binary(max_size=80), min_size=1, max_size=2),
    pems=st.lists(st.text(max_size=80), max_size=2),
    culprit=st.integers(0, 1023) | st.text("abc", min_size=1),
)
def test_any_file_is_proved_or_not(statements: list[bytes], pems: list[str], culprit: int | str) -> None:
    file = Portable(
        "replog-evidence/1", "pbft", "a", 0, "two-commits", culprit, "", statements, 0, 0, 0, "".join(pems[:1]), pems
    )
    with pytest.raises(NotProven):
        verify(file)


# ------------------------------------------------------------------------------------------------------- the folder


def test_one_file_for_each_culprit_kind_and_place(config: ClusterConfig, tmp_path: Path) -> None:
    folder = EvidenceFolder(tmp_path / "evidence", Origin.of(config), 2)
    first = folder.add(lie(config), 1, 2)
    assert first is not None
    assert verify(evidence.read(first)).culprit == 0
    assert folder.add(lie(config), 3, 4) is None
    assert folder.add(lie(config, seq=8), 3, 4) is not None
    assert folder.add(bad_new_view(config), 3, 4) is not None
    again = EvidenceFolder(tmp_path / "evidence", Origin.of(config), 2)
    assert again.add(lie(config), 5, 6) is None, "after a restart too"
    assert len(list((tmp_path / "evidence").iterdir())) == 3, "and nothing half-written"


def test_the_folder_is_bounded_and_no_liar_fills_it_for_all(
    config: ClusterConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "FILES_OF_ONE_MAX", 3)
    folder = EvidenceFolder(tmp_path, Origin.of(config), 2)
    kept = [folder.add(lie(config, 0, seq), 1, 1) is not None for seq in range(1, 6)]
    assert kept == [True] * 3 + [False] * 2
    assert folder.add(lie(config, 1), 1, 1) is not None


def test_clients_fill_their_own_share_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where a client's name looks like that of another's files."""
    monkeypatch.setattr(evidence, "FILES_OF_CLIENTS_MAX", 6)
    monkeypatch.setattr(evidence, "FILES_OF_ONE_MAX", 5)
    folder = EvidenceFolder(tmp_path, Origin("pbft", "c"), 2)
    vote = Commit(0, 1, ONE, 1, b"")

    def kept(culprit: int | str, kind: str) -> int:
        lies = [Accuse(culprit, kind, vote, vote, f"{place}.0") for place in range(7)]
        return sum(folder.add(one, 1, 1) is not None for one in lies)

    assert [kept(name, "two-requests") for name in ("ann", "ann-two", "bob")] == [4, 2, 0]
    assert [kept(node, "two-commits") for node in (0, 1)] == [5, 5]


def test_a_place_of_a_later_epoch_is_another_one(tmp_path: Path) -> None:
    folder, vote = EvidenceFolder(tmp_path, Origin("pbft", "c"), 2), Commit(0, 1, ONE, 1, b"")
    lies = [Accuse(1, "two-view-changes", vote, vote, "2.0", epoch, bytes(epoch)) for epoch in (0, 1, 2, 1)]
    assert [folder.add(one, 1, 1) is not None for one in lies] == [True, True, True, False]


# ---------------------------------------------------------------------------------------------------------- commands


@pytest.fixture
def kept(config: ClusterConfig) -> Path:
    folder = EvidenceFolder(config.node_folder(2) / evidence.FOLDER, Origin.of(config), 2)
    folder.add(lie(config), 1_700_000_000_000_000, 2)
    return next((config.node_folder(2) / evidence.FOLDER).glob("*.json"))


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.run([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_list_and_verify(config: ClusterConfig, kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "evidence", "list", "--cluster", config.folder, "--json")
    assert code == 0
    (row,) = json.loads(out)
    assert (row["culprit"], row["kind"], row["seen_by"]) == (0, "two-pre-prepares", 2)
    for pin in ([], ["--cluster", config.folder], ["--ca", config.folder / "ca.pem"]):
        code, out, _ = run(capsys, "evidence", "verify", row["file"], *pin)
        assert code == 0
        assert out.startswith("proven: node 0 signed two different statements for view 0, seq 7")
    code, out, _ = run(capsys, "evidence", "verify", kept, "--json")
    assert json.loads(out)["culprit"] == 0


def test_verify_says_what_is_wrong_in_one_line(
    config: ClusterConfig, other: ClusterConfig, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.json"
    for data in (b"", b"{}", b"\xff\xfe", b"[" * 100_000, kept.read_bytes()[:-20], changed(kept.read_bytes(), epoch=3)):
        bad.write_bytes(data)
        code, out, err = run(capsys, "evidence", "verify", bad)
        assert (code, err) == (1, "")
        assert out.startswith(f"not proven: {bad}: ")
        assert out.count("\n") == 1
    code, out, _ = run(capsys, "evidence", "verify", kept, "--cluster", other.folder, "--json")
    assert code == 1
    assert json.loads(out)["proven"] is False


def test_a_file_of_no_time_hides_no_others(
    config: ClusterConfig, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The calendar ends before the numbers do."""
    for name, value in (("seen_us", 2**62), ("seen_us", 253_402_300_799_000_000)):
        kept.with_name(f"odd-{value}.json").write_bytes(changed(kept.read_bytes(), **{name: value}))
    code, out, _ = run(capsys, "evidence", "list", "--cluster", config.folder, "--json")
    rows = {Path(row["file"]).name: row for row in json.loads(out)}
    assert code == 0
    assert rows[kept.name]["culprit"] == 0
    assert "not an evidence file" in rows[f"odd-{2**62}.json"]["error"]
    assert rows["odd-253402300799000000.json"]["seen"].startswith("9999-12-31")
    for path in kept.parent.glob("odd-*"):
        path.unlink()


def test_what_a_file_says_does_not_get_hold_of_the_terminal(
    config: ClusterConfig, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, damaged = kept.with_name("0-bad.json"), kept.with_name("0-damaged.json")
    bad.write_bytes(changed(kept.read_bytes(), culprit="a\x1b[31m\n"))
    damaged.write_text("{")
    try:
        _, verified, _ = run(capsys, "evidence", "verify", bad)
        _, listed, _ = run(capsys, "evidence", "list", "--cluster", config.folder)
    finally:
        bad.unlink()
        damaged.unlink()
    assert "\x1b" not in verified + listed
    (row,) = (line for line in listed.splitlines() if line.endswith(damaged.name))
    assert row.split("\t")[:3] == ["-", "not an evidence file: Input data was truncated", "-"]


def test_a_file_comes_through_a_pipe(kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(kept.read_bytes(),))
    writer.start()
    code, out, _ = run(capsys, "evidence", "verify", pipe)
    writer.join()
    assert (code, out[:7]) == (0, "proven:")


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (("verify",), "Missing argument 'FILE'"),
        (("verify", "none.json"), "FILE = none.json: no such file"),
        (("verify", "/"), "FILE = /: is a directory; name a file in it"),
        (("verify", "{kept}", "--ca", "none.pem"), "--ca = none.pem: no such file"),
        (("verify", "{kept}", "--ca", "/"), "--ca = /: is a directory; name a file in it"),
        (("verify", "{kept}", "--ca", "{kept}"), "holds no certificate; it takes the cluster's ca.pem"),
        (("certificate", "0", "--node", "1"), "Invalid value for 'SEQ': '0': must be a whole number, 1 or more"),
        (("certificate", "1", "--node", "1", "--out", "/"), "--out = /: cannot be written: Is a directory"),
        (("blame", "none", "{kept}"), "TRANSCRIPT = none: no such file"),
        (("blame", "/", "none"), "COMMIT-CERTIFICATE = none: no such file"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], rule: str, kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "evidence", *(text.format(kept=kept) for text in arguments))
    assert (code, err.count("\n")) == (2, 1)
    assert rule in err


def test_a_listing_without_evidence_says_so(other: ClusterConfig, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "evidence", "list", "--cluster", other.folder)
    assert (code, out) == (0, "")
    assert "nobody was seen lying" in err


def test_under_macs_a_listing_says_that_nobody_can_be_convicted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = create_cluster(tmp_path / "macs", "pbft", f=1, options={"auth": "macs"})
    _, _, err = run(capsys, "evidence", "list", "--cluster", config.folder)
    assert "nobody can be convicted" in err


def test_a_commit_is_no_statement_of_another(config: ClusterConfig) -> None:
    one, two = (Commit(0, 1, digest, 1, sign(config, 1, "commit", (0, 1, digest, 1))) for digest in (ONE, TWO))
    assert verify(parse(made(config, Accuse(1, "two-commits", one, two)))).culprit == 1
    assert "no signed statement of node 2" in why(made(config, Accuse(2, "two-commits", one, two)))


# ------------------------------------------------------------------------------------------------------ after a fork


def commit_proof(config: ClusterConfig, digest: bytes, voters: tuple[int, ...]) -> CommitProof:
    votes = [Vote(node, sign(config, node, "commit", (0, 1, digest, node))) for node in voters]
    return CommitProof(0, 1, digest, votes)


@pytest.fixture
def forked(config: ClusterConfig) -> ClusterConfig:
    """Nodes 0 and 1 have voted for two batches at seq 1; node 2 has one, node 3 the other."""
    for node, digest in ((2, ONE), (3, TWO)):
        about = {"protocol": "pbft", "cluster": config.cluster, "node": node}
        kept = Archive(config.node_folder(node) / "archive", about, 1_000_000)
        kept.add(msgspec.msgpack.encode(commit_proof(config, digest, (0, 1, node))))
        kept.close()
    return config


def test_certificate_and_blame(forked: ClusterConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.json"
    told = ("--cluster", forked.folder)
    code, _, _ = run(capsys, "evidence", "certificate", 1, "--node", 3, "--out", other, *told)
    assert code == 0
    for pin in ((), told, ("--ca", forked.folder / "ca.pem")):
        code, out, _ = run(capsys, "evidence", "blame", forked.node_folder(2) / "archive", other, *pin)
        assert code == 0
        assert out.splitlines()[0].startswith("proven: node 0 signed two different statements for view 0, seq 1")
        assert "the archive covers seqs 1 .. 1" in out
    code, out, _ = run(capsys, "evidence", "blame", forked.node_folder(2) / "archive", other, "--json")
    assert [one["culprit"] for one in json.loads(out)["culprits"]] == [0, 1]
    code, out, _ = run(capsys, "evidence", "blame", forked.node_folder(3) / "archive", other)
    assert (code, out) == (1, "not proven: both sides have committed the same at seq 1: nobody needs to have lied\n")


def test_blame_says_what_is_missing(
    forked: ClusterConfig, other: ClusterConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, bad = tmp_path / "other.json", tmp_path / "bad.json"
    run(capsys, "evidence", "certificate", 1, "--node", 3, "--out", file, "--cluster", forked.folder)
    bad.write_text("{}")
    archive = forked.node_folder(2) / "archive"
    assert run(capsys, "evidence", "blame", archive, tmp_path / "none")[0] == 2
    assert run(capsys, "evidence", "blame", archive, bad)[1].startswith("not proven: ")
    assert "not of" in run(capsys, "evidence", "blame", archive, file, "--cluster", other.folder)[1]
    code, _, err = run(capsys, "evidence", "blame", tmp_path, file)
    assert (code, err.count("\n")) == (1, 1)
    assert "holds no archive" in err
    code, _, err = run(capsys, "evidence", "certificate", 9, "--node", 3, "--out", file, "--cluster", forked.folder)
    assert code == 1
    assert "has no commit certificate for seq 9; it has those from 1 to 1" in err


def test_an_archive_is_bounded_goes_on_after_a_restart_and_survives_a_torn_end(tmp_path: Path) -> None:
    about = {"protocol": "pbft", "cluster": "c", "node": 1}
    records = [f"{number:0100}".encode() for number in range(200)]
    for half in (records[:120], records[120:]):
        kept = Archive(tmp_path, about, 8_000)
        for record in half:
            kept.add(record)
            kept.add(record)
            assert read(tmp_path)[1][-1] == record, "whole for whoever reads meanwhile"
        kept.close()
    size = sum(path.stat().st_size for path in segments(tmp_path))
    assert size <= 8_000 * 9 // 8 + 1_000
    head, found = read(tmp_path)
    assert head["node"] == 1
    assert found == records[-len(found) :]
    assert len(found) > 30
    last = segments(tmp_path)[-1]
    last.write_bytes(last.read_bytes()[:-7])
    assert read(tmp_path)[1] == found[:-1]
