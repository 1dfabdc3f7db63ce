"""What one live process did since it began: messages, bytes, signatures, commits. Counted always, told on demand.

Messages and bytes mean the same as in the simulated world: what is handed out to be sent, whether or not it arrives,
once for each receiver; bytes are those of the encoded messages, without frames and TLS. What asks for a replica's
status and what answers it is not counted, so that looking changes nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec

from replog.meters import Meter
from replog.types import Message, StatusReply, StatusRequest, decode_status, encode_status

TOLD: Final = {
    "messages_sent": "Messages sent to other replicas",
    "bytes_sent": "Bytes of messages sent to other replicas",
    "messages_received": "Messages received from other replicas",
    "bytes_received": "Bytes of messages received from other replicas",
    "client_messages_sent": "Messages sent to clients",
    "client_bytes_sent": "Bytes of messages sent to clients",
    "client_messages_received": "Messages received from clients",
    "client_bytes_received": "Bytes of messages received from clients",
    "signatures_made": "Signatures made",
    "signatures_verified": "Signatures checked",
    "macs": "MACs of requests made or checked",
    "commits": "Commits of log records; each is one fsync, unless durability is memory",
    "turns": "Turns: times that the process woke up and handled what had come",
    "frames_received": "Frames received, from replicas and clients",
    "frames_sent": "Frames sent, to replicas and clients",
}
"""What a replica tells in `Status.detail` besides the protocol's own, and what it means."""


class Traffic:
    """Messages in one direction: their number by class, and their encoded bytes."""

    __slots__ = ("bytes", "kinds")

    def __init__(self) -> None:
        self.kinds: Counter[type[Message]] = Counter()
        self.bytes = 0

    def add(self, message: Message, size: int, receivers: int = 1) -> None:
        kind = type(message)
        if kind is not StatusRequest and kind is not StatusReply:
            self.kinds[kind] += receivers
            self.bytes += size * receivers

    @property
    def messages(self) -> int:
        return self.kinds.total()


class Counters:
    """Of a replica, or of a client, which has no other side than replicas."""

    def __init__(self) -> None:
        self.sent = Traffic()
        self.received = Traffic()
        self.client_sent = Traffic()
        self.client_received = Traffic()
        self.meter = Meter()
        self.commits = 0
        self.turns = 0
        self.frames_received = 0
        self.frames_sent = 0

    def told(self) -> dict[str, int]:
        """By the names of TOLD."""
        return {
            "messages_sent": self.sent.messages,
            "bytes_sent": self.sent.bytes,
            "messages_received": self.received.messages,
            "bytes_received": self.received.bytes,
            "client_messages_sent": self.client_sent.messages,
            "client_bytes_sent": self.client_sent.bytes,
            "client_messages_received": self.client_received.messages,
            "client_bytes_received": self.client_received.bytes,
            "signatures_made": self.meter.signed,
            "signatures_verified": self.meter.verified,
            "macs": self.meter.macs,
            "commits": self.commits,
            "turns": self.turns,
            "frames_received": self.frames_received,
            "frames_sent": self.frames_sent,
        }

    def told_in(self, reply: StatusReply) -> StatusReply:
        """The same word of a replica, with these counters in its detail."""
        status = decode_status(reply.status)
        status = msgspec.structs.replace(status, detail={**status.detail, **self.told()})
        return StatusReply(reply.token, encode_status(status))
