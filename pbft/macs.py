"""`auth = "macs"`: what differs when requests carry authenticators and phases rest on the link. [CL99 5.2, CL02]

Here: requests that a replica's own entry does not vouch for, session keys and their renewal, claims instead of
certificates. The view change has a file of its own (`pbft.mac_view_change`). What is given up: nobody can show a third
party who lied, and a client whose authenticator is good for some replicas only can force view changes (HAZARDS P31):
with the measure "vouching" one, half a heartbeat long, in each `blacklist_us`; without it, as many as it likes, each
after a whole time-out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from pbft.acceptance import Acceptance
from pbft.catch_up import Allowance
from pbft.checkpoint import ClaimedCheckpoints
from pbft.claims import Claims
from pbft.core import PbftCore
from pbft.intake import Intake, read
from pbft.mac_ordering import MacOrdering
from pbft.mac_view_change import MacViewChanges
from pbft.messages import (
    Batch,
    CheckpointProof,
    CommitProof,
    Committed,
    Complaint,
    FetchViewChange,
    MacNewView,
    MacViewChange,
    NewView,
    Prepare,
    PrePrepare,
    ViewChange,
    ViewChangeAck,
    ViewChangeData,
)
from pbft.notary import LinkNotary
from pbft.requests import Identity, Requests
from pbft.suspects import Suspects
from replog import core
from replog.authenticators import KEY_BYTES, SessionKeys
from replog.core import Effect, Send, SetTimer, Setup, Started, Timeout
from replog.quorum import byzantine_quorum, weak_quorum
from replog.types import ClientId, Digest, KeyRequest, NodeId, Principal, Request, SessionKey, Submit

if TYPE_CHECKING:  # pydantic takes longer to load than all the rest
    from pbft.config import Options

DOUBTS: Final = 4
"""A heartbeat: how soon what nobody vouches for ends a view."""
ASKED_MAX: Final = 64
"""Clients about whose requests a careful primary asks when its view begins; of the rest they remind it."""
TOLD_MAX: Final = 100_000
"""Clients remembered as having been told their present key; beyond it all are told again."""


class MacRequests(Requests):
    """Invariants:
    a client whose MAC is wrong or old is told its present key once a lifetime, whoever brings the MAC
    `_asked` has those of `pending` that their own clients brought, or brought again, since the view began
    `_backers`, at the primary, has the backups that sent on what is pending, and so vouch for it
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._asked: set[Identity] = set()
        self._backers: dict[Identity, set[NodeId]] = {}
        self._enough = byzantine_quorum(setup.n, setup.f) - 1
        self.careful = False
        """Nothing was executed in this view yet, and the one before failed: only what a quorum vouches for is proposed.
        Else a client whose MACs are right for one primary after the other keeps all of them from all requests. (P31)"""
        rng = setup.rng
        most = 2 ** (8 * KEY_BYTES) - 1
        self._keys = SessionKeys(setup.me, lambda: rng.randint(0, most).to_bytes(KEY_BYTES, "big"), setup.mac)
        self._told: set[ClientId] = set()
        self._untold: dict[ClientId, None] = {}
        options: Options = setup.config
        self.suspects = Suspects(weak_quorum(setup.f), options.blacklist_us)

    def verify(self, request: Request) -> bool:
        """Its entry for this replica is right. [CL99 5.2]"""
        good, fresh = self._keys.check(request.client, request.statement(self._domain), request.auth)
        if not fresh and request.client not in self._told:
            self._untold[request.client] = None
        return good

    def vouches(self, request: Request) -> bool:
        """What waits here under other MACs, and under a right one, is the same request."""
        known = self.pending.get(request.identity)
        return (known is not None and known.body == request.body) or self.verify(request)

    def renew_keys(self) -> None:
        """Whoever still uses the last key is told the next one, and has a lifetime to take it. [CL02 keys]"""
        self._keys.renew()
        self._told.clear()

    def key_for(self, client: ClientId) -> Effect:
        return core.Reply(client, SessionKey(self._keys.key(client)))

    def tell(self, client: ClientId) -> Effect:
        """The key that `client` lacks, at once."""
        self._untold.pop(client, None)
        return self.key_for(client)

    def take_untold(self) -> list[Effect]:
        """Keys for clients that use a wrong or an old one."""
        if not self._untold:
            return []
        untold, self._untold = self._untold, {}
        if len(self._told) > TOLD_MAX:
            self._told.clear()
        self._told.update(untold)
        return [self.key_for(client) for client in untold]

    def asked(self, request: Request) -> None:
        if request.identity in self.pending:
            self._asked.add(request.identity)

    def back(self, request: Request, backup: NodeId) -> None:
        """`backup` has found its own MAC right: it has sent the request on."""
        known = self.pending.get(request.identity)
        if known is None or known.body != request.body:
            return
        backers = self._backers.setdefault(request.identity, set())
        if backup not in backers:
            backers.add(backup)
            if len(backers) == self._enough:
                self.queue(known)

    def _is_backed(self, request: Request) -> bool:
        """With the primary these are a quorum: f + 1 of them are correct, whose votes are enough for everybody."""
        return len(self._backers.get(request.identity, ())) >= self._enough

    def queue(self, request: Request) -> None:
        """What few may vouch for is proposed once a quorum does. (P31)"""
        if not self.lacks_backing(request):
            super().queue(request)

    def lacks_backing(self, request: Request) -> bool:
        return (self.careful or request.client in self.suspects) and not self._is_backed(request)

    def to_back(self) -> list[Request]:
        """What waits to be vouched for, of each client the oldest."""
        oldest: dict[ClientId, Request] = {}
        for request in self.pending.values() if self.careful else ():
            if len(oldest) < ASKED_MAX and self.lacks_backing(request):
                oldest.setdefault(request.client, request)
        return list(oldest.values())

    def relax(self, leads: bool) -> None:
        """Something was executed in this view: what waits to be vouched for need not any more, but for suspects'."""
        if not self.careful:
            return
        self.careful = False
        for request in self.pending.values() if leads else ():
            if not self._is_backed(request):
                self.queue(request)

    def remove(self, client: ClientId, timestamp: int) -> None:
        self._backers.pop((client, timestamp), None)
        self._asked.discard((client, timestamp))
        super().remove(client, timestamp)

    def forget_unasked(self) -> None:
        """A new view waits only for what clients have asked for since the last one began. Else requests that too few
        can vouch for would keep every primary from all others for ever. A correct client asks again. (P31)"""
        for identity in [identity for identity in self.pending if identity not in self._asked]:
            self.remove(*identity)
        self._asked.clear()

    def take_over(self, former: Requests) -> None:
        """Clients' keys too: a change of members makes nobody a stranger."""
        super().take_over(former)
        if isinstance(former, MacRequests):
            self._keys, self._told = former._keys, former._told
            self._asked = {identity for identity in former._asked if identity in self.pending}
            self.suspects.take_over(former.suspects)

    def suspect(self, client: ClientId) -> None:
        """From now on its requests need a quorum; those that wait here may have come to no other replica."""
        for identity in [identity for identity in self.pending if identity[0] == client]:
            self.remove(*identity)

    def begin_view(self, bodies: Iterable[Batch], leads: bool) -> None:
        """A backup waits for no suspect's requests."""
        for identity in [one for one in self.pending if not leads and one[0] in self.suspects]:
            self.remove(*identity)
        super().begin_view(bodies, leads)

    def replace(self, known: Request, request: Request) -> None:
        """The same request under other keys, as long: from now on this one is sent on and proposed."""
        self.pending[known.identity] = request


class MacIntake(Intake):
    requests: MacRequests

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._vouches = "vouching" in self.options.measures

    def unvouched(self, request: Request, sender: Principal) -> list[Effect]:
        """Not refused: it may be genuine under a key that this replica has forgotten. The client is told the key."""
        told = [self.requests.tell(request.client)] if isinstance(sender, str) else []
        return [*told, *self.notary.refuse(sender, "request: its MAC for this replica is wrong")]

    def second(self, known: Request, request: Request, sender: Principal) -> list[Effect]:
        """The same body with other MACs is the same request."""
        same = known.body == request.body and known.size == request.size
        if not same or not self.requests.verify(request):
            return super().second(known, request, sender)
        self.requests.replace(known, request)
        return []

    def _take(self, request: Request, sender: Principal) -> list[Effect]:
        """What is not proposed before a quorum vouches for it, the primary asks the others about."""
        requests, suspect = self.requests, request.client in self.requests.suspects
        if suspect and not self.ordering.leads:
            return self._pass_on(request, sender)
        effects = super()._take(request, sender)
        if isinstance(sender, int):
            requests.back(request, sender)
            return effects
        if not suspect:
            requests.asked(request)
        waits = request.identity in requests.pending and request.identity not in requests.proposed
        return effects + self._ask([request] if waits and requests.lacks_backing(request) else [])

    def _pass_on(self, request: Request, sender: Principal) -> list[Effect]:
        """A backup sends a suspect's request on, and waits for nothing."""
        return self.forward(request) if self.requests.verify(request) else self.unvouched(request, sender)

    def _ask(self, requests: Iterable[Request]) -> list[Effect]:
        """Whoever vouches for it sends it back."""
        asks = self._vouches and self.ordering.leads and self.ordering.active
        return [Send(self.notary.others, Submit(request.raw)) for request in requests if asks]

    def ask_again(self) -> list[Effect]:
        """At each tick, and when a view begins: few others may have what waits at its primary."""
        return self._ask(self.requests.to_back())

    def forward_waiting(self) -> list[Effect]:
        return super().forward_waiting() + self.ask_again()

    def from_replica(self, sender: NodeId, message: Submit) -> list[Effect]:
        """Also: the primary asks whether this replica vouches for a request. The same request is a yes."""
        asked = self._vouches and self.ordering.active and sender == self.ordering.primary
        if not asked or self.ordering.leads:
            return super().from_replica(sender, message)
        request = read(message)
        if request is None or self.requests.refusal(request):
            return self.notary.refuse(sender, "a replica forwards proper requests only")
        return [Send((sender,), Submit(request.raw))] if self.requests.vouches(request) else []


class MacAcceptance(Acceptance):
    """Invariant: `_doubted` has at most one pre-prepare a seq, of the present view and within the window."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._doubted: dict[int, tuple[PrePrepare, Batch]] = {}
        self._decided: Claims[int, Digest] = Claims(2 * self.options.log_window)

    def doubt(self, message: PrePrepare, batch: Batch, request: Request) -> list[Effect]:
        """This replica's entry does not vouch for a request: the pre-prepare waits until the primary and f backups, or
        the client itself, do. [CL02] (P31)"""
        known = self._doubted.get(message.seq)
        if known is None or known[0].view < message.view:
            self._doubted[message.seq] = message, batch
        return self.retry(message.seq)

    def retry(self, seq: int) -> list[Effect]:
        """Is the pre-prepare at `seq`, if one waits there, vouched for by now?"""
        kept = self._doubted.get(seq)
        if kept is None:
            return []
        message, batch = kept
        ordering = self.ordering
        if message.view != ordering.view or not ordering.in_window(seq) or ordering.slot(seq).digest is not None:
            del self._doubted[seq]
            return []
        # The primary's pre-prepare is one word, each backup's PREPARE another.
        words = 1 + ordering.slot(seq).prepares.possible(message.digest)
        if not ordering.active or (words < self.notary.weak_quorum and self.requests.unvouched(batch) is not None):
            return []
        del self._doubted[seq]
        return ordering.accept(message, batch)

    def retry_all(self) -> list[Effect]:
        return [effect for seq in sorted(self._doubted) for effect in self.retry(seq)]

    def doubts(self) -> dict[int, set[ClientId]]:
        """Seqs that wait to be vouched for, and whose requests are in doubt there."""
        return {
            seq: {request.client for request in batch.requests if not self.requests.vouches(request)}
            for seq, (message, batch) in self._doubted.items()
            if message.view == self.ordering.view
        }

    @property
    def doubting(self) -> bool:
        return any(message.view == self.ordering.view for message, _ in self._doubted.values())

    def on_vote(self, sender: NodeId, message: Any) -> list[Effect]:
        effects = super().on_vote(sender, message)
        return effects + self.retry(message.seq) if isinstance(message, Prepare) else effects

    def decide(self, sender: NodeId, message: Committed, batch: Batch) -> list[Effect]:
        """One replica's word that this batch is decided; a weak quorum's is true. [CL02]"""
        seq = message.proof.seq
        if len(self._decided.add(sender, seq, batch.digest)) >= self.notary.weak_quorum:
            proof = CommitProof(self.ordering.view, seq, batch.digest, [])
            self.ordering.decide_by(Committed(proof, batch.time, batch.raws), batch)
            self._decided.drop(seq)
        return []

    def check_invariants(self) -> None:
        super().check_invariants()
        assert len(self._doubted) <= 2 * self.options.log_window, "pre-prepares that are doubted are bounded"
        self._decided.check_invariants()


class MacCore(PbftCore):
    """PBFT without signatures between replicas. [CL99 5.2, CL02]"""

    notary_type = LinkNotary
    ordering_type = MacOrdering
    checkpoints_type = ClaimedCheckpoints
    view_changes_type: Any = MacViewChanges
    requests_type = MacRequests
    intake_type = MacIntake
    acceptance_type = MacAcceptance

    RENEW: Final = "renew-keys"
    DOUBT: Final = "doubt"

    requests: MacRequests
    acceptance: MacAcceptance
    intake: MacIntake
    view_changes: Any

    _in_doubt: frozenset[int] | None = None
    """The seqs in doubt when the timer for them was set; None: it does not run."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._fetches: Allowance[NodeId] = Allowance(2 * setup.n, setup.config.status_interval_us)
        for signed in (ViewChange, NewView, CheckpointProof):
            del self._messages[signed]
        self._messages |= {
            MacViewChange: self._on_view_change,
            MacNewView: self._on_new_view,
            ViewChangeAck: self._on_ack,
            FetchViewChange: self._on_fetch_view_change,
            ViewChangeData: self._on_view_change_data,
        }
        self._from_clients[KeyRequest] = self._on_key_request

    def _watch(self) -> list[Effect]:
        if self.patience.progressed:
            self.requests.relax(self.ordering.leads)
        return super()._watch() + self.requests.take_untold() + self._doubt()

    def _doubt(self) -> list[Effect]:
        """What is in doubt has a moment to be vouched for: a round trip over its client."""
        if self._in_doubt is not None or not self.acceptance.doubting or "vouching" not in self.options.measures:
            return []
        self._in_doubt = frozenset(self.acceptance.doubts())
        return [SetTimer(self.DOUBT, max(1, self.options.heartbeat // DOUBTS))]

    def _on_doubt(self) -> list[Effect]:
        """What nobody has vouched for meanwhile never will be: this view is over, and its clients are suspect. (P31) So
        are those of later batches, else each of them might cost a view of its own."""
        before, self._in_doubt = self._in_doubt or frozenset(), None
        doubts = self.acceptance.doubts()
        clients = sorted(set().union(*doubts.values()))
        if not clients or not before & doubts.keys():
            return []
        self._suspect([client for client in clients if self.requests.suspects.add(self._now, client)])
        reason = f"nobody vouches for requests of {', '.join(clients[:3])} in its batches"
        return self.demands.complain(reason, clients) + self._give_up()

    def _suspect(self, clients: list[ClientId]) -> None:
        for client in clients:
            self.requests.suspect(client)

    def _on_complaint(self, sender: NodeId, message: Complaint) -> list[Effect]:
        """Also of a view that is over: its primary learns here whom it should not have believed."""
        known = [client for client in message.clients if self.setup.verifier.knows(client)]
        if "vouching" in self.options.measures:
            self._suspect(self.requests.suspects.name(self._now, sender, known))
        return super()._on_complaint(sender, message)

    def _ask_for(self, view: int, reason: str) -> list[Effect]:
        return [*super()._ask_for(view, reason), *self.view_changes.acknowledge()]

    def _on_started(self, event: Started) -> list[Effect]:
        return [*super()._on_started(event), SetTimer(self.RENEW, self.options.key_lifetime_us)]

    def _on_timeout(self, event: Timeout) -> list[Effect]:
        if event.name == self.DOUBT:
            return self._on_doubt()
        if event.name != self.RENEW:
            return super()._on_timeout(event)
        self.requests.renew_keys()
        self.requests.suspects.forget_names()
        return [SetTimer(self.RENEW, self.options.key_lifetime_us)]

    def renew_keys(self) -> None:
        """Twice: the last ones count no more either. [CL02 proactive recovery]"""
        self.requests.renew_keys()
        self.requests.renew_keys()

    def _harvest(self, message: Any) -> None:
        super()._harvest(message)
        self._in_doubt = None
        self.requests.forget_unasked()
        self.requests.careful = True

    def _on_tick(self) -> list[Effect]:
        self.requests.suspects.forgive(self._now)
        return self._go_on(super()._on_tick() + self.acceptance.retry_all() + self.intake.ask_again())

    def _on_client_submit(self, sender: ClientId, message: Submit) -> list[Effect]:
        """A pre-prepare may have waited for the client's own word. [CL02]"""
        effects = super()._on_client_submit(sender, message)
        retried = self.acceptance.retry_all()
        return self._go_on(effects + retried) if retried else effects

    def _on_key_request(self, sender: ClientId, message: KeyRequest) -> list[Effect]:
        return [self.requests.key_for(sender)]

    def _on_ack(self, sender: NodeId, message: ViewChangeAck) -> list[Effect]:
        effects: list[Effect] = self.view_changes.on_ack(sender, message)
        return effects + self._gather()

    def _on_fetch_view_change(self, sender: NodeId, message: FetchViewChange) -> list[Effect]:
        effects: list[Effect] = []
        if self._fetches.take(self._now, sender):
            effects = self.view_changes.on_fetch(sender, message)
        return effects

    def _on_view_change_data(self, sender: NodeId, message: ViewChangeData) -> list[Effect]:
        effects: list[Effect] = self.view_changes.on_data(sender, message)
        return effects + self._begin()
