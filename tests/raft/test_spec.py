"""What the house knows of Raft: sizes, options, messages, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

import raft
from raft import messages as m
from raft.config import MESSAGE_BYTES_MAX, PART_BYTES_MAX
from raft.configuration import Configuration
from raft.log import ENTRY_OVERHEAD
from replog import merkle, protocols
from replog.codec import FRAME_BYTES_MAX, BadMessage, Domain
from replog.core import ProtocolSpec
from replog.types import Request

SPEC: ProtocolSpec = raft.SPEC


def test_raft_is_found_by_its_name() -> None:
    assert protocols.find("raft") is raft.SPEC
    assert (SPEC.name, SPEC.leader_word, SPEC.view_word) == ("raft", "leader", "term")


@pytest.mark.parametrize(("n", "f"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (7, 3)])
def test_sizes(n: int, f: int) -> None:
    assert SPEC.faults(n) == f
    assert SPEC.replicas(f) <= n
    SPEC.check_size(n, f)
    with pytest.raises(ValueError, match=rf"n = {n}, f = {f + 1}: Raft needs f >= 0 and n >= 2f \+ 1 = {2 * f + 3}"):
        SPEC.check_size(n, f + 1)


def test_a_negative_f_is_refused() -> None:
    with pytest.raises(ValueError, match="f = -1"):
        SPEC.check_size(3, -1)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"heartbeat_us": 200_000}, "heartbeat_us = 200000 is more than half of election_timeout_min_us = 300000"),
        (
            {"election_timeout_max_us": 299_999},
            "election_timeout_max_us = 299999 is below election_timeout_min_us = 300000",
        ),
        ({"check_quorum": False}, "check_quorum = false"),
        ({"batch_delay_us": 200_000}, "batch_delay_us = 200000 is more than half of election_timeout_min_us = 300000"),
        ({"log_tail": 5_000}, "log_tail = 5000 is not below snapshot_entries = 4096"),
        ({"pending_bytes_max": 10}, "pending_bytes_max = 10 is below request_bytes_max"),
        ({"log_bytes_max": 10}, "log_bytes_max = 10 is below snapshot_bytes"),
        ({"snapshot_timeout_us": 1_000}, "snapshot_timeout_us = 1000 is below snapshot_retry_us"),
        ({"window": 0}, "window"),
        ({"window": 10**9}, "window\n"),
        ({"batch_bytes_max": 200 * 2**20}, "batch_bytes_max\n.*less than or equal to 33554432"),
        ({"request_bytes_max": 64 * 2**20, "pending_bytes_max": 64 * 2**20}, "request_bytes_max\n"),
        ({"pending_bytes_max": 2**30}, "pending_bytes_max\n"),
        ({"snapshot_chunk_bytes": 40 * 2**20}, "snapshot_chunk_bytes\n"),
        ({"snapshot_part_bytes_max": 1_048_575}, "snapshot_part_bytes_max\n.*greater than or equal to 1048576"),
        ({"append_entries_max": 10**9}, "append_entries_max\n"),
        ({"uncommitted_max": 10**9}, "uncommitted_max\n"),
        ({"lease_reads": True, "leader_stickiness": False}, "lease_reads = true needs leader_stickiness = true"),
        ({"clock_drift_ppm": 1_000_000}, "clock_drift_ppm\n"),
        ({"elction_timeout": 3}, "elction_timeout"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text.replace("(", r"\(")):
        SPEC.options(options)


@pytest.mark.parametrize("size", [14, 100, 300, 70_000])
def test_the_largest_message_that_options_allow_fits_a_frame(size: int) -> None:
    """What encoding adds is within the headroom, for the smallest requests and the largest count of entries. In small:
    a hundredth of it."""
    room = MESSAGE_BYTES_MAX // 100
    requests = [bytes(size)] * (room // size)
    full = m.Entry(2**62, 2**62, requests)
    empty = [m.Entry(2**62, 2**62, [])] * (room // ENTRY_OVERHEAD)
    for entries in ([full], empty):
        message = m.AppendEntries(2**62, 1023, 2**62, 2**62, entries, 2**62, 2**62)
        assert len(m.MESSAGES.encode(message)) < 1.25 * room + 100 < FRAME_BYTES_MAX / 100
    smallest = Request.make(lambda statement: b"", Domain("c"), "c", 1, 0, [b""])
    assert smallest.size >= 14


def test_a_receiver_can_hold_the_largest_part_of_a_state() -> None:
    """The number stands twice: protocols do not import the application's tree."""
    assert PART_BYTES_MAX == merkle.PART_BYTES_MAX


def test_options_have_defaults_and_do_not_change() -> None:
    options = SPEC.options({"heartbeat_us": 20_000})
    assert (options.heartbeat_us, options.pre_vote, options.check_quorum, options.leader_stickiness) == (
        20_000,
        True,
        True,
        True,
    )
    with pytest.raises(ValidationError):
        options.heartbeat_us = 1


def test_one_reply_is_enough_and_the_next_server_is_asked() -> None:
    rules = SPEC.client_rules(3, 1, SPEC.options({"client_retry_us": 5_000}))
    assert (rules.reply_quorum, rules.retry_all, rules.retry_us) == (1, False, 5_000)
    assert (rules.read_quorum, rules.read_from) == (1, "leader")
    assert SPEC.client_rules(3, 1, SPEC.options({"read_from": "any"})).read_from == "any"
    assert SPEC.client_rules(3, 1, SPEC.options({"fast_reads": False})).read_quorum == 0


SAMPLES: list[Any] = [
    m.RequestVote(3, 1, 7, 2),
    m.VoteReply(3, True),
    m.PreVote(4, 1, 7, 2),
    m.PreVoteReply(3, 4, False),
    m.AppendEntries(3, 0, 6, 2, [m.Entry(3, 9, [b"x"]), m.Entry(3, 9, [], Configuration([0, 1], [1, 2], [3]))], 5, 8),
    m.AppendReply(3, False, 6, 0, 2, 4, 8),
    m.InstallSnapshot(3, 0, 9, 2, Configuration.of(3), bytes(32), 4, 0, b"data", True),
    m.SnapshotReply(3, 9, [5, 6], False),
    m.RequestVote(3, 1, 7, 2, True),
    m.TimeoutNow(3, 1),
    m.ReadIndex(3, 2**61),
    m.ReadIndexReply(3, 2**61, 9),
]


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_messages_survive_the_wire(message: Any) -> None:
    assert m.MESSAGES.decode(m.MESSAGES.encode(message)) == message


@pytest.mark.parametrize(
    "record", [m.HardState(3, -1), m.Entries(4, 2, [m.Entry(3, 9, [])]), m.LogStart(9, 2, Configuration.of(1))]
)
def test_records_survive_the_disk(record: Any) -> None:
    assert m.RECORDS.decode(m.RECORDS.encode(record)) == record


@pytest.mark.parametrize(
    "message",
    [
        m.RequestVote(-1, 1, 7, 2),
        m.RequestVote(2**62 + 1, 1, 7, 2),
        m.RequestVote(1, 4_000, 7, 2),
        m.SnapshotReply(3, 9, list(range(65)), False),
        m.InstallSnapshot(3, 0, 9, 2, Configuration.of(3), b"short", 4, 0, b"", True),
        m.InstallSnapshot(3, 0, 9, 2, Configuration([]), bytes(32), 4, 0, b"", True),
        m.HardState(1, 1),
    ],
)
def test_messages_out_of_bounds_do_not_pass_the_codec(message: Any) -> None:
    with pytest.raises(BadMessage):
        m.MESSAGES.decode(m.MESSAGES.encode(message))


def test_figure_2_and_13_are_there_by_name() -> None:
    """Field for field; what is added carries its reason in the docstring."""
    figure = {
        m.RequestVote: ["term", "candidate_id", "last_log_index", "last_log_term"],
        m.VoteReply: ["term", "vote_granted"],
        m.AppendEntries: ["term", "leader_id", "prev_log_index", "prev_log_term", "entries", "leader_commit"],
        m.AppendReply: ["term", "success"],
        m.InstallSnapshot: ["term", "leader_id", "last_included_index", "last_included_term", "offset", "data", "done"],
        m.SnapshotReply: ["term"],
        m.HardState: ["current_term", "voted_for"],
    }
    for kind, names in figure.items():
        fields = msgspec.structs.fields(kind)
        assert set(names) <= {field.name for field in fields}, kind


def test_importing_raft_is_quick_and_brings_no_io() -> None:
    """The bar is 150 ms; here only what would break it is looked for, since a clock in a test is none."""
    command = "import sys, raft; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", command],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(raft.__file__).parent.parent,
    )
    loaded = set(done.stdout.split())
    assert "raft.core" in loaded
    assert not loaded & {"aiohttp", "sqlite3", "cryptography", "replog.executor", "replog.live", "replog.sim"}
