"""An unreplicated server behind the interface of a replicated log: the proof that a third protocol can join.

It is also the baseline of experiments: what the machine gives when nothing has to be agreed.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, PositiveInt

from replog import core as contract
from replog.codec import BadMessage, Codec, digest_of
from replog.types import COMMON_MESSAGES, U63, Answer, Message, Micros, Reply, Request, Status, Submit


class Entry(Message, tag="te"):
    index: U63
    time: U63
    request: bytes


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    checkpoint_interval: PositiveInt = 100
    retry_us: PositiveInt = 200_000


class ToyCore:
    """Invariant: an entry is listed as Persist ahead of its answer, so that no answer overtakes the disk."""

    def __init__(self, setup: contract.Setup) -> None:
        self._setup = setup
        self._index = self._stable = setup.stored.index
        self._reading: list[Request] = []

    def step(self, now: Micros, event: contract.Event) -> list[contract.Effect]:
        match event:
            case contract.Started():
                left = [record for record in self._setup.stored.records if record.index > self._index]
                return [effect for record in left for effect in self._execute(record, Request(record.request))]
            case contract.Received(str(), Submit(raw)):
                return self._on_request(raw)
            case contract.Applied(_, results):
                return [self._answer(one.client, one.timestamp, one.results) for one in results]
            case contract.Queried(_, results):
                read = self._reading.pop()
                return [self._answer(read.client, read.timestamp, results[0])]
            case contract.Checkpointed(index, _):
                self._stable = index
                return [contract.SaveState(index), contract.Trim(index)]
        return []

    def _on_request(self, raw: bytes) -> list[contract.Effect]:
        setup, sessions = self._setup, self._setup.sessions
        try:
            request = Request(raw)
        except BadMessage as error:
            return [contract.Note("nonsense", {"rule": str(error)})]
        if not setup.verifier.verify(request.client, request.statement(setup.domain), request.auth):
            return [contract.Note("nonsense", {"rule": "a request is signed by its client"})]
        if request.read_only:
            self._reading.append(request)
            return [contract.Query(0, [request])]
        if not sessions.admits(*request.identity):
            return [self._answer(*request.identity, sessions.results(*request.identity))]
        entry = Entry(self._index + 1, setup.wall(), raw)
        return [contract.Persist(entry, entry.index), *self._execute(entry, request)]

    def _execute(self, entry: Entry, request: Request) -> list[contract.Effect]:
        self._index = entry.index
        effects: list[contract.Effect] = [contract.Apply(entry.index, [request], entry.time, digest_of(request.raw))]
        if entry.index % self._setup.config.checkpoint_interval == 0:
            effects.append(contract.Checkpoint(entry.index))
        return effects

    def _answer(self, client: str, timestamp: int, results: bytes | None) -> contract.Reply:
        answer = Answer.REFUSED if results is None else Answer.DONE
        return contract.Reply(client, Reply(timestamp, answer, results or b"executed before, result not kept", 0, 0))

    def status(self) -> Status:
        return Status(0, "toy", "server", 0, 0, self._index, self._stable, True)

    def check_invariants(self) -> None:
        assert self._stable <= self._index, "a checkpoint is of what was executed"


class ToySpec:
    name, leader_word, view_word = "toy", "server", "view"
    messages: Codec[Any] = Codec(*COMMON_MESSAGES)
    records: Codec[Any] = Codec(Entry)

    def replicas(self, f: int) -> int:
        return 1

    def faults(self, n: int) -> int:
        return 0

    def check_size(self, n: int, f: int) -> None:
        if (n, f) != (1, 0):
            raise ValueError(f"n = {n}, f = {f}: an unreplicated server has n = 1 and f = 0")

    def options(self, given: dict[str, Any]) -> Options:
        return Options(**given)

    def boundary(self, options: Any) -> None:
        return None

    def core(self, setup: contract.Setup) -> contract.Core:
        return ToyCore(setup)

    def client_rules(self, n: int, f: int, options: Options) -> contract.ClientRules:
        return contract.ClientRules(reply_quorum=1, retry_all=False, retry_us=options.retry_us)


SPEC = ToySpec()
