"""Changes of the members, as an administrator has them made: folders for those that join, the signed command, and the
wait for the epoch that comes of it. Used by `replog member` and by `LocalCluster`.

Not here: who starts and stops processes, and what is a lawful change (`replog.membership`, the same on every replica).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from replog import certificates
from replog.config import IDENTITIES, PORT_MAX, ClusterConfig
from replog.enrolment import administrator, check_host, enroll, enrolled, own_member
from replog.errors import ConfigError, OperationFailed, ReplogError
from replog.interface import Said
from replog.live.client import LogClient
from replog.live.links import bind, is_here
from replog.live.locks import FolderLock, Held
from replog.membership import VALID_US, Change, Configuration, Link, Member, signed
from replog.quorum import byzantine_quorum
from replog.roster import Roster, changes, joint
from replog.types import NodeId

LEARN_S = 1.0
"""How long the newest configuration is asked for before a change of it is made."""
READY_S = 30.0
"""How long replicas that are still joining are waited for before."""
LOOK_S = 0.2
BEGIN_S = 60.0
"""How long the turn to the next epoch may take."""
LOCK = "change.pid"
"""Held in the cluster's folder by whoever makes a change: two at once would take each other's new folders."""


class ChangePending(ReplogError):
    """The change is ordered and not yet in effect; the text says from where on it is."""


class ChangeGivenUp(ReplogError):
    """The members are as before; the text says why."""


@dataclass(frozen=True)
class Wish:
    """What is to become of the members. `add`: host and port of each new one; port 0: one that is free; `learners`:
    they are not to vote. `promote`: learners that are to. `f`: None leaves it as it is, or as many as the voters stand
    where it follows from their number (joint consensus)."""

    remove: Sequence[NodeId] = ()
    add: Sequence[tuple[str, int]] = ()
    f: int | None = None
    learners: bool = False
    promote: Sequence[NodeId] = ()


class Administrator:
    """Whoever holds the administrator's key, with a client of the cluster."""

    def __init__(self, config: ClusterConfig, key: str | os.PathLike[str] | None = None) -> None:
        """`key`: the folder of key.pem, by default the cluster's own. Raises ConfigError naming what is missing."""
        if flaw := changes(config):
            raise ConfigError(flaw)
        self._config = config
        self._signer = administrator(config, key)

    async def change(self, client: LogClient, wish: Wish) -> Configuration:
        """The configuration that is to come, once the change is ordered. Replicas that are still joining are waited
        for, if it takes them. Raises OperationFailed with the rule that it breaks, and ConfigError, having left nothing
        behind; OutcomeUnknown and the like as any command."""
        with self._alone():
            await client.learn(LEARN_S)
            held = client.members
            self._check(wish, held)
            if joint(self._config):
                self._check_idle(await client.status())
            else:
                await self._await_ready(client, held, wish)
            return await self._order(client, held, wish)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Raises ConfigError if another process of this machine is making a change."""
        folder = self._config.folder
        try:
            lock = FolderLock(folder, 0, LOCK)
        except Held as held:
            raise ConfigError(f"{folder}: process {held.pid} is making a change of its members; wait for it") from None
        except OSError as error:
            raise ConfigError(f"{folder / LOCK}: {error.strerror or error}") from None
        try:
            yield
        finally:
            lock.release()

    async def _order(self, client: LogClient, held: Configuration, wish: Wish) -> Configuration:
        before = enrolled(self._config)
        try:
            added = self._enroll(held, client.links, wish.add)
            change = self._change(wish, held, added)
            following = await client.change(signed(self._signer.sign, self._config.cluster, change))
        except (ConfigError, OperationFailed):
            for node in {*enrolled(self._config)} - {*before}:
                shutil.rmtree(self._config.node_folder(node), ignore_errors=True)
            raise
        self._certify(added)
        return following

    def _check(self, wish: Wish, held: Configuration) -> None:
        unknown = sorted({*wish.remove, *wish.promote} - set(held.ids))
        if unknown:
            raise ConfigError(f"node = {unknown[0]}: is no member; members are {', '.join(map(str, held.ids))}")
        if voters := sorted(set(wish.promote) - set(held.learners)):
            raise ConfigError(f"node = {voters[0]}: is no learner; learners are {list(held.learners)}")
        if joint(self._config) and not wish.add and {*wish.remove} >= {*held.voters}:
            raise ConfigError(f"remove = {sorted(wish.remove)}: at least one voter has to stay, of {list(held.voters)}")
        if wish.f is not None and joint(self._config):
            rule = f"{self._config.protocol} stands as many faults as leave a majority of the voters"
            raise ConfigError(f"f = {wish.f}: {rule}, it is not chosen")

    def _check_idle(self, said: Sequence[Said]) -> None:
        """Before folders are made: those of a change under way are there, and are its newcomers'. Raises
        ChangePending."""
        pending = [w.status.detail.get("pending") for w in said if w.status is not None and w.status.role == "leader"]
        if under_way := next((text for text in pending if text), ""):
            after = "wait for it, or give it up with replog member give-up"
            raise ChangePending(f"a change of the members is under way: {under_way}; {after}")

    def _change(self, wish: Wish, held: Configuration, added: tuple[Member, ...]) -> Change:
        new = {member.id for member in added}
        learners = ({*held.learners} - {*wish.remove, *wish.promote}) | (new if wish.learners else set())
        voters = ({*held.ids} - {*wish.remove} | new) - learners
        f = self._config.spec.faults(len(voters)) if joint(self._config) and voters else held.f
        f, until = f if wish.f is None else wish.f, time.time_ns() // 1_000 + VALID_US
        return Change(held.epoch, f, tuple(wish.remove), added, tuple(sorted(learners)), until)

    # ------------------------------------------------------------------------------------------------ before the change

    async def _await_ready(self, client: LogClient, held: Configuration, wish: Wish) -> None:
        """Whoever comes may be late, or never come. So the others alone have to be able to go on, and to undo it."""
        needed, staying = _quorum(held, wish), {*held.ids} - {*wish.remove}
        if len(staying) < needed:
            rule = f"takes {needed} that vote before anybody has joined; only {len(staying)} of the present ones stay"
            raise ConfigError(f"{_size(held, wish)}: {rule}; change fewer at a time")
        until = time.monotonic() + READY_S
        while flaw := self._unready(held, wish, await client.status()):
            if time.monotonic() >= until:
                raise ConfigError(flaw)
            await asyncio.sleep(LOOK_S)

    def _unready(self, held: Configuration, wish: Wish, said: Sequence[Said]) -> str:
        roles = {word.node: word.status.role for word in said if word.status is not None}
        joining = {node for node, role in roles.items() if role.startswith("joining")}
        staying = {*held.ids} - {*wish.remove}
        voting = sorted(staying & roles.keys() - joining)
        if len(voting) < _quorum(held, wish):
            return f"{_size(held, wish)}: takes {_quorum(held, wish)} that vote and stay; now only {voting} do"
        if wish.remove and self._config.auth == "macs":
            # Those that are to leave may be the ones whose word another has still to hear.
            joining |= {*Roster(self._config).newcomers} - roles.keys()
            if left := sorted(joining - {*wish.remove}):
                return f"node = {left[0]}: has not joined yet, and does so on the word of members; try again then"
        return ""

    # ------------------------------------------------------------------------------------------------------ the folders

    def _enroll(
        self, held: Configuration, links: Sequence[Link], places: Sequence[tuple[str, int]]
    ) -> tuple[Member, ...]:
        """Folders for those that are to join, which begin where this client has followed the members to."""
        added: list[Member] = []
        for node, (host, port) in enumerate(places, held.next_id):
            check_host(host)
            taken = {member.port for member in (*held.members, *added)}
            if port:
                self._check_free(node, host, port)
            added.append(enroll(self._config, node, host, port or self._port(node, host, taken)).member)
            Roster(self._config, self._config.node_folder(node)).followed(held, links)
        return tuple(added)

    def _port(self, node: NodeId, host: str, taken: set[int]) -> int:
        """That of the folder, if there is one; else the first free one above those of the members."""
        if node in enrolled(self._config):
            return own_member(self._config, node).port
        if not is_here(host):
            raise ConfigError(f"host = {host}: is not of this machine, so its free ports are not known; name one")
        for port in range(max(taken) + 1, PORT_MAX + 1):
            with contextlib.suppress(ConfigError):
                bind(host, port).close()
                return port
        raise ConfigError(f"host = {host}: no port above {max(taken)} is free; name one")

    def _check_free(self, node: NodeId, host: str, port: int) -> None:
        """A replica that cannot listen would be a member all the same, and take the place of a fault."""
        if node not in enrolled(self._config) and is_here(host):
            try:
                bind(host, port).close()
            except ConfigError as error:
                raise ConfigError(f"{error}; name another, or none for one that is free") from None

    def _certify(self, added: Sequence[Member]) -> None:
        """Certificates of the new identity keys, for evidence; like all others they tell the cluster's first size."""
        path = self._config.folder / IDENTITIES
        if not added or not path.is_file():
            return
        authority = certificates.Authority.load(self._config.folder, self._config.cluster)
        with path.open("a") as file:
            for member in added:
                file.write(authority.certify(member.id, member.public_key.hex(), self._config.n, self._config.f))

    async def settled(self, client: LogClient, following: Configuration, timeout: float = BEGIN_S) -> Configuration:  # noqa: ASYNC109
        """Once the epoch has begun: the configuration that is proved then. Raises ChangePending, and ChangeGivenUp
        where one that is to vote did not catch up."""
        if not await client.follow(following.epoch, timeout):
            late = f"the change is ordered, but epoch {following.epoch} has not begun after {timeout:g} s"
            raise ChangePending(f"{late}: {await self._awaited(client, following)}; see replog status")
        present = client.members
        if present.epoch == following.epoch and present.voters != following.voters:
            late = ", ".join(map(str, sorted({*following.voters} - {*present.voters})))
            raise ChangeGivenUp(f"the change was given up: node {late} did not catch up in time, see its node.log")
        return present

    @staticmethod
    async def _awaited(client: LogClient, following: Configuration) -> str:
        if not following.is_open:
            epoch = client.members.epoch
            return f"it begins when the members of epoch {epoch} have a stable checkpoint at {following.first - 1}"
        said = [word.status.detail.get("newcomers") for word in await client.status() if word.status is not None]
        waits = next((str(text) for text in said if text), "")
        return f"who comes has to catch up first, {waits}" if waits else "a majority of the old voters and of the new"


def _following(held: Configuration, wish: Wish) -> tuple[int, int]:
    """n and f after the change."""
    return held.n - len(wish.remove) + len(wish.add), held.f if wish.f is None else wish.f


def _quorum(held: Configuration, wish: Wish) -> int:
    """How many have to vote then; 0 for what the replicas will refuse."""
    try:
        return byzantine_quorum(*_following(held, wish))
    except ValueError:
        return 0


def _size(held: Configuration, wish: Wish) -> str:
    return "n = {}, f = {}".format(*_following(held, wish))
