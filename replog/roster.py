"""Who the members of a cluster are now, as far as its folder knows: `DIR/members.json`, for convenience alone.

The file holds the links from the first configuration (cluster.toml) to the newest that a client of this folder has
followed, and is proved anew whenever it is read: whoever can write it can hide a change, no more; a process that runs
goes on from what it knows, and takes no other way, whoever has signed that. Where nothing is
signed (MACs) it holds what a weak quorum has told, and is as trustworthy as the folder. Where one member's word is
enough (Raft) there are no links, and `told` is the newest configuration that one has told. `next` is a change under
way, for whoever starts and dials processes: nothing rests on it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from replog.chain import Chain
from replog.config import ClusterConfig
from replog.core import ClientRules
from replog.errors import ConfigError
from replog.keys import Ed25519Verifier
from replog.membership import EPOCHS_MAX, OPEN, Configuration, Link, Member
from replog.types import Digest, NodeId

log = logging.getLogger("replog.roster")

FILE = "members.json"
FILE_BYTES_MAX = 64 * 1024 * 1024


class _File(msgspec.Struct, forbid_unknown_fields=True):
    format: Literal["replog-members/1"]
    links: Annotated[list[Link], msgspec.Meta(max_length=EPOCHS_MAX)] = []
    told: Configuration | None = None
    next: Configuration | None = None


def changes(config: ClusterConfig) -> str:
    """Why the members of this cluster cannot change; "" if they can."""
    boundary = getattr(config.spec, "boundary", None)
    if boundary is None or boundary(config.protocol_options()) is None:
        return f"protocol = {config.protocol}: does not support changes of its members yet"
    if config.admin is None:
        return "admin is missing in cluster.toml: this cluster was made without an administrator's key"
    return ""


def joint(config: ClusterConfig) -> bool:
    """Whether its members change by joint consensus, any of them at once, and there may be learners."""
    boundary = config.spec.boundary(config.protocol_options())
    return boundary is not None and boundary(0) + 1 >= OPEN


class Roster:
    """Invariant: `known` follows from cluster.toml by `links`, which were verified, or told by a weak quorum where
    nothing is signed; or one member told it where that is enough."""

    def __init__(self, config: ClusterConfig, folder: Path | None = None) -> None:
        """Read the file, if there is one. Raises ConfigError if it proves nothing. `folder`: of a replica that was
        enrolled later, which has a file of its own."""
        self.config = config
        self.path = (folder or config.folder) / FILE
        self.changing = not changes(config)
        self.known = config.genesis
        self._begins: Digest = b""
        self.links: list[Link] = []
        """From the first configuration to the known one."""
        self.next: Configuration | None = None
        if self.changing:
            self.look()

    def look(self) -> bool:
        """Read the file again; whether there is news. Raises ConfigError, and knows what it knew before, for one that
        proves nothing or leads elsewhere: a fork of what is known, by keys that have leaked since."""
        before = self.known, self.next
        found = self._read()
        chain = self._proved(found)
        if chain.known.epoch >= self.known.epoch:
            self.known, self._begins, self.links = chain.known, chain.begins, found.links
        self.next = found.next if found.next is not None and found.next.epoch == self.known.epoch + 1 else None
        return (self.known, self.next) != before

    def _read(self) -> _File:
        try:
            if self.path.stat().st_size > FILE_BYTES_MAX:
                raise ConfigError(f"{self.path}: more than {FILE_BYTES_MAX} bytes; {self._advice}")
            return msgspec.json.decode(self.path.read_bytes(), type=_File)
        except FileNotFoundError:
            return _File("replog-members/1")
        except OSError as error:
            raise ConfigError(f"{self.path}: {error.strerror or error}") from None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError(f"{self.path}: {error}; {self._advice}") from None

    def _proved(self, file: _File) -> Chain:
        """What the links in it lead to, by way of what is known."""
        chain, known = self._chain(self.config.genesis, b""), len(self.links)
        try:
            chain.follow(file.links[:known], file.told)
            self._check_known(chain)
            chain.follow(file.links[known:])
        except ValueError as error:
            raise ConfigError(f"{self.path}: {error}; {self._advice}") from None
        return chain

    def _check_known(self, chain: Chain) -> None:
        """Raises ValueError where the same epoch is another one than is known here."""
        if chain.known.epoch == self.known.epoch and (chain.known, chain.begins) != (self.known, self._begins):
            raise ValueError(f"leads to another epoch {self.known.epoch} than the one that is known here")

    @property
    def _advice(self) -> str:
        """What to do about a file that is spoilt."""
        if self.config.auth != "macs":
            return "it is kept for convenience, remove it"
        return f"put a copy back, or remove it while {self.config.f + 1} of the first members are still there to ask"

    def chain(self) -> Chain:
        """For a client that knows what the roster knows."""
        return self._chain(self.known, self._begins)

    def _chain(self, known: Configuration, begins: Digest) -> Chain:
        return Chain(known, self.config.cluster, self.rules, lambda of: Ed25519Verifier(of.keys()), begins)

    def rules(self, n: int, f: int) -> ClientRules:
        return self.config.spec.client_rules(n, f, self.config.protocol_options())

    @property
    def newcomers(self) -> tuple[NodeId, ...]:
        """Who has come with the last change."""
        before = self._before
        return tuple(node for node in self.known.ids if before.member(node) is None)

    @property
    def needed(self) -> tuple[NodeId, ...]:
        """Replicas that are to run: the members, and where nothing is signed those that have left last: of the others
        fewer than a weak quorum may have the state, and a proof of it cannot be shown. (HAZARDS P43)"""
        left = self._before.ids if self.rules(self.known.n, self.known.f).macs else ()
        return tuple(sorted({*left, *(member.id for member in self.members)}))

    @property
    def _before(self) -> Configuration:
        """That of the epoch before, or the first one."""
        return self._chain(self.config.genesis, b"").follow(self.links[:-1])

    @property
    def members(self) -> tuple[Member, ...]:
        """Of the present configuration and of a change under way, by id."""
        both = {member.id: member for one in (self.known, self.next) if one is not None for member in one.members}
        return tuple(both[node] for node in sorted(both))

    @property
    def _told(self) -> Configuration | None:
        """What is written down where one member's word is enough."""
        certified = self.rules(self.known.n, self.known.f).certified
        return self.known if certified is None and self.known.epoch else None

    def member(self, node: NodeId) -> Member | None:
        return next((member for member in self.members if member.id == node), None)

    # -------------------------------------------------------------------------------------------------------- writing

    def followed(self, known: Configuration, links: Sequence[Link]) -> None:
        """Somebody has come to know this, by links that end with these. One that is behind changes nothing."""
        self._look_again()
        if known.epoch <= self.known.epoch:
            return
        missing = links[len(links) - (known.epoch - self.known.epoch) :]
        chain = self.chain()
        try:
            chain.follow(missing, known)
        except ValueError as error:
            log.warning("%s: %s; epoch %d is not written there", self.path, error, known.epoch)
            return
        self.links = [*self.links, *missing]
        self.known, self._begins, self.next = known, chain.begins, None
        self._write()

    def announce(self, following: Configuration) -> None:
        """A change is under way, which makes this of the configuration."""
        self._look_again()
        if following.epoch == self.known.epoch + 1:
            self.next = following
            self._write()

    def _look_again(self) -> None:
        """Another process may have written it. What it has spoilt is written anew."""
        with contextlib.suppress(ConfigError):
            self.look()

    def _write(self) -> None:
        """In one step: whoever reads finds the old file or the new one. What cannot be written has to be asked again,
        no more."""
        new = self.path.with_name(f".new-{secrets.token_hex(4)}.json")
        try:
            with new.open("xb") as file:
                file.write(msgspec.json.encode(_File("replog-members/1", self.links, self._told, self.next)) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path)
        except OSError as error:
            log.warning("%s: cannot be written: %s", self.path, error.strerror or error)
        finally:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
