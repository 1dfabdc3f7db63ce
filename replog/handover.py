"""Public keys as they go from the machine that made them to whoever founds a cluster or registers a client.

`NAME.pub` holds, for each purpose, the public halves of an identity's two keys, each signed with both: nobody can hand
over another's key as his own. Not here: private keys in files (`replog.certificates`), what is made of public ones
(`replog.founding`, `replog.access`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError

from replog import certificates
from replog.certificates import IDENTITY_KEY, LINK_KEY, PublicKeys
from replog.config import Closed, PublicKey, first_fault, toml_of
from replog.errors import ConfigError
from replog.keys import Ed25519Verifier

FORMAT: Final = "replog-public-keys/1"
NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
SUFFIX: Final = ".pub"
FILE_BYTES_MAX: Final = 16 * 1024
Purpose = Literal["node", "gateway", "client"]
NODE: Final = "node"
GATEWAY: Final = "gateway"
CLIENT: Final = "client"
HOST_PURPOSES: Final[tuple[Purpose, ...]] = (NODE, GATEWAY)
"""What a machine of a cluster needs keys for; those of the gateway lie in a folder of their own."""

Signature = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


class HandedKeys(Closed):
    """Two public keys, and the signature of each over both."""

    identity: PublicKey
    link: PublicKey
    identity_proof: Signature
    link_proof: Signature


class HandedFile(Closed):
    """Invariant: whoever wrote it had the private half of every key in it."""

    format: Literal["replog-public-keys/1"]
    name: Annotated[str, Field(pattern=NAME)]
    keys: Annotated[dict[Purpose, HandedKeys], Field(min_length=1)]

    @property
    def fingerprint(self) -> str:
        """Short enough to be read out over the telephone: 80 bits of SHA-256 over all keys."""
        text = "".join(f"{purpose}{keys.identity}{keys.link}" for purpose, keys in sorted(self.keys.items()))
        digest = hashlib.sha256(text.encode()).hexdigest()[:20]
        return "-".join(digest[place : place + 4] for place in range(0, 20, 4))

    def public(self, purpose: Purpose) -> PublicKeys:
        """Raises ConfigError if the file is for something else."""
        keys = self.keys.get(purpose)
        if keys is None:
            rule = "replog key new --client makes them" if purpose == CLIENT else "replog key new makes them"
            raise ConfigError(f"{self.name}{SUFFIX}: holds no keys of a {purpose}; {rule}")
        return PublicKeys(keys.identity, keys.link)


def make(folder: Path, name: str, purposes: Sequence[Purpose]) -> tuple[Path, HandedFile]:
    """New keys in `folder`, which must not exist yet, and the file to hand over beside them. Raises ConfigError."""
    try:
        folder.mkdir(mode=0o700, parents=True)
        keys = {purpose: _made(_place(folder, purpose, purposes), name, purpose) for purpose in purposes}
        handed = HandedFile.model_validate({"format": FORMAT, "name": name, "keys": keys})
        path = folder / f"{name}{SUFFIX}"
        certificates.write_new(path, toml_of(handed.model_dump()).encode(), mode=0o644)
    except FileExistsError:
        raise ConfigError(f"{folder}: exists already; keys are never written over, name another folder") from None
    except ValidationError as error:
        shutil.rmtree(folder)
        raise ConfigError(first_fault(error)) from None
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made: {error.strerror or error}") from None
    return path, handed


def _place(folder: Path, purpose: Purpose, purposes: Sequence[Purpose]) -> Path:
    """The first purpose's keys lie in the folder itself."""
    return folder if purpose == purposes[0] else folder / purpose


def _made(folder: Path, name: str, purpose: Purpose) -> dict[str, str]:
    folder.mkdir(mode=0o700, exist_ok=True)
    public = certificates.make_keys(folder)
    statement = _statement(name, purpose, public)
    proofs = {
        "identity_proof": certificates.load_signer(folder, IDENTITY_KEY).sign(statement).hex(),
        "link_proof": certificates.load_signer(folder, LINK_KEY).sign(statement).hex(),
    }
    return {"identity": public.identity, "link": public.link, **proofs}


def _statement(name: str, purpose: str, public: PublicKeys) -> bytes:
    return "\n".join((FORMAT, name, purpose, public.identity, public.link)).encode()


def read(path: str | os.PathLike[str]) -> HandedFile:
    """Raises ConfigError naming the file, and what is wrong with it."""
    try:
        if Path(path).stat().st_size > FILE_BYTES_MAX:
            raise ConfigError(f"{path}: more than {FILE_BYTES_MAX} bytes, this is no file of replog key new")
        handed = HandedFile.model_validate(tomllib.loads(Path(path).read_text()))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_fault(error)}") from None
    for purpose, keys in handed.keys.items():
        _check_proofs(path, handed.name, purpose, keys)
    return handed


def _check_proofs(path: Any, name: str, purpose: str, keys: HandedKeys) -> None:
    statement = _statement(name, purpose, PublicKeys(keys.identity, keys.link))
    for kind, key, proof in (("identity", keys.identity, keys.identity_proof), ("link", keys.link, keys.link_proof)):
        if not Ed25519Verifier({0: bytes.fromhex(key)}).verify(0, statement, bytes.fromhex(proof)):
            raise ConfigError(f"{path}: keys.{purpose}.{kind}: is not signed with its private key; hand it over anew")


def install(made: Path, folder: Path) -> bool:
    """Move the two private keys from where `make` has put them to the folder of the identity; whether there were any.
    Raises ConfigError, also for keys that others can read. What is there already is never written over."""
    moved = False
    for name in (IDENTITY_KEY, LINK_KEY):
        source, target = made / name, folder / name
        if target.exists() or not source.exists():
            continue
        certificates.load_signer(made, name)
        try:
            shutil.move(source, target)
            target.chmod(0o600)
        except OSError as error:
            raise ConfigError(f"{source}: cannot be moved to {target}: {error.strerror or error}") from None
        moved = True
    return moved
