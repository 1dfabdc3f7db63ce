"""What a server says, held against what it has written and may claim. [Raft fig. 2, fig. 13]

Each function looks at one message to one server, at its place among the effects of a step; `WORDS` says which.
"""

# ruff: noqa: ARG001  all have the signature by which `WORDS` calls them

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from compare.model.raft_log import agreed, require
from raft.messages import (
    AppendEntries,
    AppendReply,
    InstallSnapshot,
    PreVote,
    PreVoteReply,
    ReadIndexReply,
    RequestVote,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
)
from replog.core import Received, Timeout
from replog.types import NOBODY, NodeId

if TYPE_CHECKING:
    from compare.model.raft import Server

FOLLOWER, PRE_CANDIDATE, CANDIDATE, LEADER = "follower", "pre-candidate", "candidate", "leader"


def _request_vote(server: Server, to: NodeId, message: RequestVote) -> None:
    require(
        server.role == CANDIDATE and server.voted_for == server.me, "candidates", "asks for votes and is no candidate"
    )
    last = message.last_log_index, message.last_log_term
    require(last == (server.log.last_index, server.log.last_term), "candidates", f"says that its log ends with {last}")


def _vote(server: Server, to: NodeId, message: VoteReply) -> None:
    asked = server.event.message if isinstance(server.event, Received) else None
    fits = isinstance(asked, RequestVote) and isinstance(server.event, Received) and server.event.sender == to
    require(fits, "RequestVote", f"a vote for {to}, who did not ask")
    right = server.may_vote(to, server.current_term) and server.voted_for in (NOBODY, to)
    require(message.vote_granted == right, "RequestVote 1, 2", f"vote for {to}: {message.vote_granted}, not {right}")
    written = not message.vote_granted or server.voted_for == to
    require(written, "persistent state", f"gives {to} a vote that is not written")


def _pre_vote(server: Server, to: NodeId, message: PreVote) -> None:
    require(server.role != LEADER, "9.6", "a leader asks for pre-votes")
    require(message.term == server.current_term + 1, "9.6", f"asks for term {message.term} in {server.current_term}")
    last = message.last_log_index, message.last_log_term
    require(last == (server.log.last_index, server.log.last_term), "9.6", f"says that its log ends with {last}")
    if server.role != PRE_CANDIDATE or (isinstance(server.event, Timeout) and server.event.name == "election"):
        server.role, server.pre_votes = PRE_CANDIDATE, {server.me}


def _pre_vote_reply(server: Server, to: NodeId, message: PreVoteReply) -> None:
    asked = server.event.message if isinstance(server.event, Received) else None
    if not message.vote_granted:
        return
    fits = isinstance(asked, PreVote) and asked.term == message.asked > server.current_term
    fits = fits and server.log.is_behind(asked.last_log_index, asked.last_log_term)  # type: ignore[union-attr]
    require(fits, "9.6", f"a pre-vote for {to} that has no right to it")


def _entries(server: Server, to: NodeId, message: AppendEntries) -> None:
    require(server.role == LEADER, "leaders", "sends entries and leads nobody")
    prev, log = message.prev_log_index, server.ahead
    require(log.term(prev) == message.prev_log_term, "leaders", f"entry {prev} is not of term {message.prev_log_term}")
    same = tuple(message.entries) == log.after(prev, len(message.entries))
    require(same, "leaders", f"sends after {prev} what its log does not hold")
    told = message.leader_commit
    require(told <= server.commit_index, "leaders", f"says that {told} is committed, {server.commit_index} is")
    server.round = max(server.round, message.round)


def _appended(server: Server, to: NodeId, message: AppendReply) -> None:
    asked = server.event.message if isinstance(server.event, Received) else None
    require(isinstance(asked, AppendEntries), "AppendEntries", f"answers {to}, who sent nothing")
    if not isinstance(asked, AppendEntries):
        return
    right = asked.term == server.current_term and server.expected is not None
    require(message.success == right, "AppendEntries 1, 2", f"success = {message.success}, not {right}")
    if not message.success:
        _conflict(server, asked, message)
        return
    most = asked.prev_log_index + len(asked.entries)
    require(message.match_index <= most, "AppendEntries 5", f"{message.match_index} verified, {most} were sent")
    require(server.log == server.expected, "AppendEntries 4", "acknowledges what is not written")
    bare = bool(server.unsaved and message.match_index)
    require(not bare, "7", f"acknowledges on the state of {server.unsaved}, which is not on disk")


def _conflict(server: Server, asked: AppendEntries, message: AppendReply) -> None:
    if asked.term < server.current_term:
        return
    term, index = message.conflict_term, message.conflict_index
    if term:
        fits = server.log.term(asked.prev_log_index) == term and server.log.first_of_term(term, index) == index
    else:
        fits = index == server.log.last_index + 1 <= asked.prev_log_index
    require(fits, "5.3", f"names {index} of term {term} as what is in the way")


def _snapshot(server: Server, to: NodeId, message: InstallSnapshot) -> None:
    require(server.role == LEADER, "13", "sends a snapshot and leads nobody")
    index = message.last_included_index
    fits = index <= server.last_applied and server.log.term(index) == message.last_included_term
    require(fits, "7", f"a snapshot of {index}, of term {message.last_included_term}")


def _installed(server: Server, to: NodeId, message: SnapshotReply) -> None:
    if message.done:
        index = message.last_included_index
        require(index <= server.commit_index and not server.unsaved, "13", f"says that the state of {index} is on disk")


def _stand(server: Server, to: NodeId, message: TimeoutNow) -> None:
    require(server.role == LEADER, "3.10", "moves a leadership that it has not")
    has = server.match_index.get(to, 0)
    require(has == server.log.last_index, "3.10", f"moves it to {to}, who has {has} of {server.log.last_index}")


def _index(server: Server, to: NodeId, message: ReadIndexReply) -> None:
    require(server.role == LEADER and (to, message.token) in server.asked, "8", "an index that nobody asked for")
    round_, committed = server.asked[to, message.token]
    index = message.read_index
    require(max(committed, server.began) <= index <= server.commit_index, "8", f"reads at {index}")
    confirmed = agreed(server.log.latest_configuration, {**server.answered, server.me: server.round})
    require(server.leases or confirmed > round_, "8", f"round {confirmed} is confirmed, {round_} was under way")


WORDS: Final[dict[type[Any], Any]] = {
    RequestVote: _request_vote,
    VoteReply: _vote,
    PreVote: _pre_vote,
    PreVoteReply: _pre_vote_reply,
    AppendEntries: _entries,
    AppendReply: _appended,
    InstallSnapshot: _snapshot,
    SnapshotReply: _installed,
    TimeoutNow: _stand,
    ReadIndexReply: _index,
}
