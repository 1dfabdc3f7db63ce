"""What Raft servers say to each other and what they put on disk. Field names are figure 2's and figure 13's.

A reply is a message of its own: nothing here waits for an answer, and each answer carries enough to be recognised when
it is late, doubled or out of order (HAZARDS R7, R12). Replies to a pre-vote are of another type than votes, so that one
can never be counted as the other (HAZARDS R6).
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from raft.configuration import Configuration
from replog.codec import Codec
from replog.membership import MEMBERSHIP_MESSAGES
from replog.membership import Configuration as Members
from replog.types import COMMON_MESSAGES, U63, Message, WireDigest, WireNode

PARTS_WANTED_MAX: Final = 64
Hint = Annotated[bytes, msgspec.Meta(max_length=33)]
Place = tuple[U63, U63]
"""A term, and how far a log is that of the term's leader: see `raft.witness`."""
MEMBERS_MAX: Final = 384
"""In one configuration."""


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One log entry, which is one consensus instance: many clients' requests, as the bytes that came.

    `time`: the leader's time of day when it was appended, us since 1970. No requests and no configuration: the no-op at
    the start of a term [Raft 8]. The index is the entry's place.
    """

    term: U63
    time: U63
    requests: list[bytes]
    configuration: Configuration | None = None


class RequestVote(Message, frozen=True, tag="rv"):
    """Candidate to all. [Raft fig. 2] `move`: the leader itself wants it, so that no loyalty to it counts.
    [Ongaro14 4.2.3]"""

    term: U63
    candidate_id: WireNode
    last_log_index: U63
    last_log_term: U63
    move: bool = False


class VoteReply(Message, frozen=True, tag="rw"):
    """Results of RequestVote."""

    term: U63
    vote_granted: bool


class PreVote(Message, frozen=True, tag="rp"):
    """Would you vote for me in term `term`, which is one beyond mine? Changes nothing on either side. [Ongaro14 9.6]"""

    term: U63
    candidate_id: WireNode
    last_log_index: U63
    last_log_term: U63


class PreVoteReply(Message, frozen=True, tag="rq"):
    """`term` is the voter's own current term; `asked` echoes the term that the pre-vote was for."""

    term: U63
    asked: U63
    vote_granted: bool


class AppendEntries(Message, frozen=True, tag="ra"):
    """Leader to followers; without entries it is a heartbeat. [Raft fig. 2]

    `round` numbers the leader's heartbeats within its term and comes back in the reply, which proves that the follower
    still followed after that heartbeat was sent.
    """

    term: U63
    leader_id: WireNode
    prev_log_index: U63
    prev_log_term: U63
    entries: list[Entry]
    leader_commit: U63
    round: U63


class AppendReply(Message, frozen=True, tag="rb"):
    """Results of AppendEntries.

    `prev_log_index` echoes the message answered. `match_index`: the follower's log equals the leader's up to here, on
    disk (when successful). `conflict_term`, `conflict_index`: the term in the way and the follower's first index of it;
    term 0 with the index after its last if its log is too short. [Raft 5.3] Index 0: refused for its term alone, which
    was older than `term`; `round` is one of that older term then.
    """

    term: U63
    success: bool
    prev_log_index: U63
    match_index: U63
    conflict_term: U63
    conflict_index: U63
    round: U63


class InstallSnapshot(Message, frozen=True, tag="rs"):
    """Leader to a follower whose next entry is compacted away: one chunk of the state. [Raft 7, fig. 13]

    The state travels in numbered parts below a root digest, so that a follower asks only for the parts that it lacks;
    `offset` and `done` are within `part`. [deviates: the paper's one file would start from zero with each new leader]
    """

    term: U63
    leader_id: WireNode
    last_included_index: U63
    last_included_term: U63
    configuration: Configuration
    digest: WireDigest
    part: U63
    offset: U63
    data: bytes
    done: bool


class SnapshotReply(Message, frozen=True, tag="rt"):
    """Results of InstallSnapshot: the parts still wanted, in the order in which they are wanted.

    `done`: everything up to `last_included_index` is in place and on disk. Neither done nor wanting: being written;
    or, with index 0, refused for its older term alone.
    `hints`: what the follower has of some of these parts, each told once; one that changes says that what came for the
    last one did not help.
    """

    term: U63
    last_included_index: U63
    wanted: Annotated[list[U63], msgspec.Meta(max_length=PARTS_WANTED_MAX)]
    done: bool
    hints: Annotated[dict[U63, Hint], msgspec.Meta(max_length=PARTS_WANTED_MAX)] = msgspec.field(default_factory=dict)


class TimeoutNow(Message, frozen=True, tag="rm"):
    """Leader to the follower that is to lead next, and has the whole log: stand at once. [Ongaro14 3.10]"""

    term: U63
    leader_id: WireNode


class Removed(Message, frozen=True, tag="rx"):
    """To a server that left, at once and whenever it asks for votes: these are the members, by a committed entry, the
    one before `members.first`. It may send its clients to them. [Ongaro14 4.2.3] (HAZARDS R19)"""

    members: Members


class ReadIndex(Message, frozen=True, tag="ri"):
    """Follower to leader: from which index on is a state fresh enough for reads that have come here? [Ongaro14 6.4]

    `token` is not used twice, not even over a restart: an answer to an older question would be too old.
    """

    term: U63
    token: U63


class ReadIndexReply(Message, frozen=True, tag="rj"):
    """What was committed when a round of heartbeats began that came after the question, and which a quorum answered."""

    term: U63
    token: U63
    read_index: U63


class Returned(Message, frozen=True, tag="ro"):
    """A server that has just started, to all: its term and the end of its log when it did. What had it promised?
    `lost`: it had promised more, as it knows by now, and gives no votes. (HAZARDS R28)"""

    term: U63
    last_log_index: U63
    lost: bool


class Known(Message, frozen=True, tag="rk"):
    """The answer: the latest term in which it is known to have made a promise, and how far its log was acknowledged to
    the leader of that term. 0, 0: nothing is known."""

    term: U63
    index: U63


class Acknowledged(Message, frozen=True, tag="rg"):
    """Leader to all, now and then: how far each log is its own; of itself, what it has said is committed."""

    term: U63
    indexes: Annotated[dict[WireNode, U63], msgspec.Meta(max_length=MEMBERS_MAX)]


MESSAGES: Final = Codec(
    *COMMON_MESSAGES,
    *MEMBERSHIP_MESSAGES,
    RequestVote,
    VoteReply,
    PreVote,
    PreVoteReply,
    AppendEntries,
    AppendReply,
    InstallSnapshot,
    SnapshotReply,
    TimeoutNow,
    Removed,
    ReadIndex,
    ReadIndexReply,
    Returned,
    Known,
    Acknowledged,
)

# ----------------------------------------------------------------------------------------------------------- on disk


class HardState(Message, frozen=True, tag="rH"):
    """Before any promise of the term leaves. `voted_for` is NOBODY if no vote was given in it. [Raft fig. 2]"""

    current_term: U63
    voted_for: WireNode


class Entries(Message, frozen=True, tag="rE"):
    """The log from `first` on, replacing whatever was there: a repair of the log is a record like another.

    `prev_term` is the term of the entry before `first`: a record that does not fit onto the log before it belongs to a
    log that was discarded (see `raft.log.recover`).
    """

    first: U63
    prev_term: U63
    entries: list[Entry]


class LogStart(Message, frozen=True, tag="rL"):
    """With the application's state at or beyond `index` nothing of the log up to `index` is needed (HAZARDS R16)."""

    index: U63
    term: U63
    configuration: Configuration


class Witnessed(Message, frozen=True, tag="rW"):
    """What is known of the others' promises; `lost`: what this server itself had promised and does not have."""

    places: Annotated[dict[WireNode, Place], msgspec.Meta(max_length=MEMBERS_MAX)]
    lost: Place | None


RECORDS: Final = Codec(HardState, Entries, LogStart, Witnessed)
