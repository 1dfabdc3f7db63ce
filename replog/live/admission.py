"""Who may ask the gateway what: bearer tokens, client certificates, or anybody.

Tokens are kept as hashes in `tokens.toml` of the gateway's folder, which is read again when it changes. A certificate
is one of a registered client; its role is asked of the cluster. Both limit what this gateway passes on, no more: what
reaches the log is the gateway's own request, and its role there is for the replicas to enforce (`replog.access`).
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import time
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError

from replog.access import Access
from replog.certificates import peer_of
from replog.config import Closed, first_fault, toml_of
from replog.errors import ConfigError

FILE: Final = "tokens.toml"
PREFIX: Final = "replog_"
"""So that whoever finds one knows what it is."""
TOKEN_BYTES: Final = 32
TOKENS_MAX: Final = 1000
FILE_BYTES_MAX: Final = 1024 * 1024
HEADER_MAX: Final = 200
ACCESS_S: Final = 2.0
"""For how long the cluster's word about roles is believed."""


class Token(Closed):
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
    role: Literal["read", "write"]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class TokenFile(Closed):
    tokens: Annotated[list[Token], Field(max_length=TOKENS_MAX)]


class NotAdmitted(Exception):
    """`status`: 401 for who did not say who he is, 403 for who may not do this."""

    def __init__(self, status: int, text: str, rule: str) -> None:
        super().__init__(text)
        self.status = status
        self.rule = rule


# -------------------------------------------------------------------------------------------------------------- tokens


class Tokens:
    """Invariant: what is known is what the file held when it was last seen to have changed."""

    def __init__(self, folder: Path) -> None:
        """Raises ConfigError."""
        self.path = folder / FILE
        self._seen: tuple[int, int] | None = None
        self._known: dict[str, Token] = {}
        self.look()

    def look(self) -> None:
        """Read the file again if it has changed. Raises ConfigError, and then nobody is known."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            self._seen, self._known = None, {}
            return
        if (found.st_ino, found.st_mtime_ns) != self._seen:
            self._seen, self._known = None, {}
            self._known = {token.sha256: token for token in self.read()}
            self._seen = found.st_ino, found.st_mtime_ns

    def read(self) -> list[Token]:
        """What is in the file, [] if there is none. Raises ConfigError."""
        try:
            found = self.path.stat()
            if (mode := stat.S_IMODE(found.st_mode)) & 0o077:
                raise ConfigError(
                    f"{self.path}: others can read this file (mode {mode:04o}); mend it with: chmod 600 {self.path}"
                )
            if found.st_size > FILE_BYTES_MAX:
                raise ConfigError(f"{self.path}: more than {FILE_BYTES_MAX} bytes")
            return TokenFile.model_validate(tomllib.loads(self.path.read_text())).tokens
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{self.path}: {error}") from None
        except ValidationError as error:
            raise ConfigError(f"{self.path}: {first_fault(error)}") from None

    def __bool__(self) -> bool:
        return self._seen is not None

    def find(self, token: str) -> Token | None:
        """By its hash, so that how long it takes tells nothing of the token."""
        return self._known.get(_hash(token))

    def add(self, name: str, role: str) -> str:
        """A new token, which is told this once. Raises ConfigError for a name that has one."""
        known = self.read()
        if any(token.name == name for token in known):
            raise ConfigError(f"token = {name!r:.80}: there is one of this name; revoke it first")
        token = PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
        self._write([*(one.model_dump() for one in known), {"name": name, "role": role, "sha256": _hash(token)}])
        return token

    def revoke(self, name: str) -> None:
        """Raises ConfigError if there is none."""
        known = self.read()
        if all(token.name != name for token in known):
            names = ", ".join(token.name for token in known) or "none"
            raise ConfigError(f"token = {name!r:.80}: there is none of this name; there are {names}")
        self._write([token.model_dump() for token in known if token.name != name])

    def _write(self, tokens: list[dict[str, Any]]) -> None:
        """In one step. A file without tokens lets nobody in; no file lets anybody."""
        try:
            text = toml_of(TokenFile.model_validate({"tokens": tokens}).model_dump())
            new = self.path.with_name(f".{FILE}.{secrets.token_hex(4)}")
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path)
        except ValidationError as error:
            raise ConfigError(first_fault(error)) from None
        except OSError as error:
            raise ConfigError(f"{self.path}: {error.strerror or error}") from None


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


# ----------------------------------------------------------------------------------------------------------- admission


class Admission:
    """Invariant: with tokens or certificates nobody is let in who has neither."""

    def __init__(
        self, cluster: str, tokens: Tokens, certificates: bool, access: Callable[[], Awaitable[Access]]
    ) -> None:
        """`access`: asks the cluster who its clients are."""
        self._cluster = cluster
        self._tokens = tokens
        self._certificates = certificates
        self._access = access
        self._held: tuple[float, Access] | None = None

    @property
    def is_open(self) -> bool:
        return not self._certificates and not self._tokens

    async def check(self, headers: Mapping[str, str], certificate: Mapping[str, Any] | None, *, writes: bool) -> None:
        """Raises NotAdmitted; ConfigError for a file of tokens that cannot be read."""
        self._tokens.look()
        if self.is_open:
            return
        name, role = await self._who(headers, certificate)
        if writes and role not in ("write", "admin"):
            raise NotAdmitted(403, f"{name} has role {role}", "role read: queries alone")

    async def _who(self, headers: Mapping[str, str], certificate: Mapping[str, Any] | None) -> tuple[str, str]:
        given = headers.get("Authorization", "")
        kind, _, token = given.partition(" ")
        if given:
            found = self._tokens.find(token.strip()) if kind.lower() == "bearer" and len(given) <= HEADER_MAX else None
            if found is None:
                raise NotAdmitted(401, "this token is not known here", "Authorization: Bearer TOKEN")
            return f"token {found.name}", found.role
        peer = peer_of(self._cluster, certificate)
        if self._certificates and isinstance(peer, str):
            return await self._registered(peer)
        rule = "Authorization: Bearer TOKEN" if self._tokens else "the certificate of a registered client"
        raise NotAdmitted(401, "this gateway serves those it knows", rule)

    async def _registered(self, name: str) -> tuple[str, str]:
        now = time.monotonic()
        if self._held is None or now > self._held[0] + ACCESS_S:
            self._held = now, await self._access()
        access = self._held[1]
        if flaw := access.stranger(name):
            raise NotAdmitted(403, flaw, "the certificate of a registered client")
        known = access.of(name)
        return f"client {name}", known.role if known is not None else "revoked"
