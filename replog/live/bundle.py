"""One file for a bug report: what was found, what replicas say, versions, settings and the ends of diagnostics.

No secret is in it. Only what is named here goes in, no key and no data; and every secret that lies in the cluster's
folder is looked for in what does, in each form in which it could stand there, and cut out. What an application has
printed is in a replica's diagnostics: whoever sends the file should look through it first.
"""

from __future__ import annotations

import base64
import importlib.metadata
import io
import json
import os
import platform
import re
import stat
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import serialization

from replog.certificates import write_new
from replog.config import FILE, ClusterConfig
from replog.errors import ConfigError
from replog.host import FILE as HOST_FILE
from replog.live.admission import PREFIX
from replog.live.doctor import Finding
from replog.roster import FILE as MEMBERS_FILE

TAIL_BYTES: Final = 512 * 1024
"""Of each file of diagnostics, so much of its end."""
LISTED_MAX: Final = 5_000
PLAIN: Final = (FILE, HOST_FILE, "ca.pem", "identities.pem", MEMBERS_FILE, "running.json")
TAILS: Final = ("up.log", "node-*/node.log", "node-*/stderr.log", "client-*/gateway.log", "client-*/stderr.log")
PACKAGES: Final = ("replog", "aiohttp", "cryptography", "msgspec", "prometheus-client", "pydantic", "pynacl", "uvloop")
REDACTED: Final = b"[redacted]"
_PATTERNS: Final = (
    re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(rb"\b" + PREFIX.encode() + rb"[A-Za-z0-9_-]{20,}"),
    re.compile(rb"(?i)(?<=bearer )[A-Za-z0-9._~+/-]{8,}=*"),
)
_SECRET_FILES: Final = ("ca.key", "*/key.pem", "*/tls.key", "*/tls.key.next")
_LEAST: Final = 12
"""Shorter pieces of a secret are not looked for: they are no use, and could be anything."""


def write(
    path: Path, config: ClusterConfig, findings: Sequence[Finding], report: Mapping[str, Any] | None
) -> list[str]:
    """Make the file, readable by its owner alone; what is in it. Raises ConfigError, also for a file that is there."""
    told = {"findings.json": _json([one.as_dict() for one in findings]), "status.json": _json(report)}
    told |= {"versions.json": _json(versions()), "files.txt": "\n".join(listed(config.folder)).encode()}
    entries = told | dict(_found(config.folder))
    secrets = list(secrets_in(config.folder))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(entries.items()):
            archive.writestr(name, redacted(data, secrets))
    try:
        write_new(path, packed.getvalue())
    except FileExistsError:
        raise ConfigError(f"--bundle = {path}: is there already; name another file") from None
    except OSError as error:
        raise ConfigError(f"--bundle = {path}: {error.strerror or error}") from None
    return sorted(entries)


def versions() -> dict[str, Any]:
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            packages[name] = "not installed"
    return {"python": sys.version, "platform": platform.platform(), "cpus": os.cpu_count(), "packages": packages}


def listed(folder: Path) -> Iterator[str]:
    """Names, permissions and sizes; what is inside stays where it is."""
    for count, path in enumerate(sorted(folder.rglob("*"))):
        if count == LISTED_MAX:
            yield "..."
            return
        try:
            found = path.lstat()
        except OSError:
            continue
        yield f"{stat.filemode(found.st_mode)} {found.st_uid} {found.st_size:>12} {path.relative_to(folder)}"


def _found(folder: Path) -> Iterator[tuple[str, bytes]]:
    paths = [folder / name for name in PLAIN] + [path for pattern in TAILS for path in sorted(folder.glob(pattern))]
    for path in paths:
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - TAIL_BYTES))
                yield f"folder/{path.relative_to(folder)}", file.read(TAIL_BYTES)
        except OSError:
            continue


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2, default=str).encode() + b"\n"


# ------------------------------------------------------------------------------------------------------------- secrets


def secrets_in(folder: Path) -> Iterator[bytes]:
    """Every private key that lies there, in the forms in which it could be written somewhere else."""
    for path in sorted(path for pattern in _SECRET_FILES for path in folder.glob(pattern)):
        try:
            pem = path.read_bytes()
            key = serialization.load_pem_private_key(pem, password=None)
        except (OSError, ValueError):
            continue
        yield pem.strip()
        yield from (line for line in pem.splitlines() if len(line) >= _LEAST and not line.startswith(b"-----"))
        raw = key.private_bytes(
            serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
        )
        yield from (raw, raw.hex().encode(), raw.hex().upper().encode(), repr(raw)[2:-1].encode())
        yield from (base64.b64encode(raw).rstrip(b"="), base64.urlsafe_b64encode(raw).rstrip(b"="))


def redacted(data: bytes, secrets: Sequence[bytes]) -> bytes:
    for secret in sorted(secrets, key=len, reverse=True):
        data = data.replace(secret, REDACTED)
    for pattern in _PATTERNS:
        data = pattern.sub(REDACTED, data)
    return data
