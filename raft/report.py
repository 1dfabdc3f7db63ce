"""What a server says of itself, for `replog status` and `replog doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raft.election import Role
from replog.types import NOBODY, Status

if TYPE_CHECKING:
    from raft.core import RaftCore


def status(core: RaftCore) -> Status:
    election, log, machine = core.election, core.log, core.machine
    fetching = core.receiver.snapshot is not None or machine.installing > 0
    role = _role(core)
    if fetching:
        role += " fetching state"
    return Status(
        node=core.me,
        protocol="raft",
        role=role,
        view=election.current_term,
        leader=election.leader,
        index=machine.last_applied,
        stable=machine.saved_index,
        in_sync=election.leader != NOBODY and not fetching and machine.last_applied == machine.commit_index,
        reason=core.witness.in_words or election.reason,
        detail={
            "commit_index": machine.commit_index,
            "log_first": log.start_index + 1,
            "log_last": log.last_index,
            "log_bytes": log.size,
            "reads": core.reads.waiting,
            "broadcast_us": core.replication.broadcast_us if core.replication is not None else 0,
            "waiting": core.requests.operations if core.requests is not None else 0,
            "nonsense": core.nonsense,
            "witnessed": core.witness.least,
            **({"paused": 1} if core.paused else {}),
            **core.roll.detail(core.reconfiguration.in_words if core.reconfiguration is not None else ""),
        },
    )


def _role(core: RaftCore) -> str:
    role, log = core.election.role, core.log
    if role is Role.PRE_CANDIDATE:
        return Role.CANDIDATE.value
    if core.witness.lost is not None:
        return "no vote"
    if role is not Role.FOLLOWER or (log.configuration.votes(core.me) and not core.election.is_removed):
        return role.value
    if core.me in log.configuration.members and not core.election.is_removed:
        return "learner"
    return "removed" if core.election.is_removed or core.roll.was_member(core.me) else "joining"
