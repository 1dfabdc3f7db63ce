"""A client in the simulated world: `replog.client.ClientCore` as a process, over the same network as everybody.

Here: submitting, asking a replica for its own word, and a closed loop of submissions. Not here: what makes a result
(`replog.client`), nor what a workload should look like (`compare.workloads`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

from replog.client import ClientCore, ClientEffect, Done, Failed, Followed, ToReplica, Wake
from replog.membership import Configuration
from replog.sim.process import Process
from replog.types import (
    MEMBERSHIP,
    ClientId,
    LogReply,
    LogRequest,
    Message,
    Micros,
    NodeId,
    Principal,
    Status,
    StatusReply,
    StatusRequest,
    decode_status,
)

OnDone = Callable[[Done | Failed], None]
_RETRY = "retry"


class SimClient(Process):
    """Invariant: every submission ends in at most one call of its `on_done`."""

    name: ClientId

    def __init__(self, *process: Any, core: ClientCore) -> None:
        super().__init__(*process)
        self.operation_us = self._costs.client_operation_us
        if self._costs.client_frame_us is not None:
            self.frame_in_us = self.frame_out_us = self._costs.client_frame_us
        self.core = core
        self.submitted = 0
        self.acknowledged = 0
        """Operations submitted and answered, not requests."""
        self.failures: list[Failed] = []
        self.followed: list[Configuration] = []
        """Configurations that it has learned of."""
        self._on_done: dict[int, OnDone | None] = {}
        self._on_word: dict[int, Callable[[Any], None]] = {}
        self._sends: list[tuple[tuple[Principal, ...], Message]] = []
        self._token = count(1)

    # ------------------------------------------------------------------------------------------------- what it can do

    def change(self, signed_change: bytes, on_done: OnDone | None = None) -> int:
        """Submit a change of the members (`replog.membership.signed`)."""
        return self.submit([signed_change], on_done, flags=MEMBERSHIP)

    def submit(
        self, operations: Sequence[bytes], on_done: OnDone | None = None, read_only: bool = False, flags: int = 0
    ) -> int:
        """Submit one request; gives its timestamp. `on_done` gets the Done or Failed, once."""
        timestamp, effects = self.core.submit(self.clock.monotonic(), list(operations), read_only, flags)
        self.submitted += len(operations)
        self._operations += len(operations)
        self._on_done[timestamp] = on_done
        self._handled += self._costs.client_request_us
        self._carry_out(effects)
        self.wake()
        return timestamp

    def load(
        self,
        operations: Iterator[Sequence[bytes]],
        outstanding: int = 1,
        on_done: Callable[[int, Sequence[bytes], Done | Failed], None] | None = None,
        pause_us: Micros = 0,
        read_only: bool = False,
    ) -> None:
        """A closed loop: keep `outstanding` requests under way until `operations` ends, `pause_us` after each answer.

        `on_done(invoked, operations, end)`: `invoked` is the world's time of the submission.
        """

        def following() -> None:
            request = next(operations, None)
            if request is None:
                return
            invoked = self.world.now

            def ended(end: Done | Failed) -> None:
                if on_done is not None:
                    on_done(invoked, request, end)
                if pause_us:
                    self.world.at(self.world.now + pause_us, lambda _: following())
                else:
                    following()

            self.submit(request, ended, read_only)

        for _ in range(outstanding):
            following()

    def ask_status(self, node: NodeId, on_answer: Callable[[Status], None]) -> None:
        """What one replica says of itself."""
        token = next(self._token)
        self._on_word[token] = lambda reply: on_answer(decode_status(reply.status))
        self._say(node, StatusRequest(token))

    def ask_log(self, node: NodeId, first: int, many: int, on_answer: Callable[[LogReply], None]) -> None:
        """What one replica says of its log."""
        token = next(self._token)
        self._on_word[token] = on_answer
        self._say(node, LogRequest(token, first, many))

    def _say(self, node: NodeId, message: Message) -> None:
        self._sends.append(((node,), message))
        self._messages_out += 1
        self._frames_out += 1
        self.wake()

    @property
    def outstanding(self) -> int:
        """Requests without an end so far."""
        return len(self._on_done)

    # ----------------------------------------------------------------------------------------------------- its process

    def on_message(self, sender: Principal, message: Message) -> None:
        if not isinstance(sender, int):
            return
        if type(message) in (StatusReply, LogReply):
            answer = self._on_word.pop(message.token, None)  # type: ignore[attr-defined]
            if answer is not None:
                answer(message)
            return
        if self._handling:
            self._handled += self._handling.get(type(message).__name__, 0.0)
        self._carry_out(self.core.on_message(self.clock.monotonic(), sender, message))

    def on_timer(self, name: str) -> None:
        self._carry_out(self.core.on_timeout(self.clock.monotonic()))

    def _carry_out(self, effects: Sequence[ClientEffect]) -> None:
        for effect in effects:
            if isinstance(effect, ToReplica):
                self._sends.append((effect.to, effect.message))
                self._messages_out += 1
                self._frames_out += len(effect.to)
            elif isinstance(effect, Followed):
                self.followed.append(effect.configuration)
            elif isinstance(effect, Wake):
                self.set_timer(_RETRY, max(1, effect.at - self.clock.monotonic()))
            else:
                self._finish(effect)

    def _finish(self, end: Done | Failed) -> None:
        if isinstance(end, Done):
            self.acknowledged += len(end.outcomes)
            self._operations += len(end.outcomes)
        else:
            self.failures.append(end)
        on_done = self._on_done.pop(end.timestamp, None)
        if on_done is not None:
            on_done(end)

    def end_turn(self) -> None:
        if self._sends:
            sends, self._sends = self._sends, []
            self.transmit(sends)
