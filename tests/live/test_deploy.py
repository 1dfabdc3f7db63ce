"""What is under deploy/ fits the program: metrics that alerts name exist, units run commands that there are."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from replog import cli
from replog.cli import tree
from replog.config import ClusterConfig, create_cluster
from replog.errors import ConfigError
from replog.interface import Said
from replog.live import bundle, doctor
from replog.live.admission import Tokens
from replog.live.counters import TOLD
from replog.live.gateway import Meters
from replog.types import Status
from tests.live.command import ROOT

ALERTS = ROOT / "deploy" / "prometheus" / "replog-alerts.yml"
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))


def exported() -> set[str]:
    """Names of samples that /metrics shows once a replica has answered and a request was served."""
    meters = Meters()
    detail: dict[str, int | str] = {**dict.fromkeys(TOLD, 1), "certificate_ends": 1}
    meters.take([Said(0, Status(0, "raft", "leader", 1, 0, 1, 1, True, detail=detail))], True)
    meters.requests.labels("GET /kv", "200").inc()
    meters.seconds.labels("GET /kv").observe(0.1)
    return set(re.findall(r"^(\w+)[{ ]", generate_latest(meters.registry).decode(), re.MULTILINE))


def unknown_in(text: str) -> set[str]:
    """Names of metrics in the expressions of alerts that nobody exports."""
    named = {
        name for line in re.findall(r"^\s+expr: (.*)$", text, re.MULTILINE) for name in re.findall(r"replog_\w+", line)
    }
    assert len(named) > 5
    return named - exported()


def test_alerts_name_metrics_that_there_are() -> None:
    assert not unknown_in(ALERTS.read_text())
    assert unknown_in(ALERTS.read_text() + "\n        expr: replog_nothing > 1\n") == {"replog_nothing"}


def test_each_alert_is_whole() -> None:
    rules = ALERTS.read_text().split("- alert: ")[1:]
    assert len({rule.split()[0] for rule in rules}) == len(rules) > 5
    for rule in rules:
        assert all(f"{word}:" in rule for word in ("expr", "severity", "summary"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_run_commands_that_there_are(unit: Path) -> None:
    (line,) = re.findall(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)
    program, *words = line.split()
    assert program.endswith("/replog")
    place: Any = tree.command()
    for word in words[:-1]:
        place = place.commands[word]
    assert words[-1] == "/var/lib/replog/%i"
    settings = dict(re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE))
    assert (settings["UMask"], settings["NoNewPrivileges"], settings["User"]) == ("0077", "yes", "replog")
    if shutil.which("systemd-analyze"):
        done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
        told = [text for text in done.stderr.splitlines() if "is not executable" not in text]
        assert not [text for text in told if unit.name.partition("@")[0] in text], done.stderr


# -------------------------------------------------------------------------------------------------------- bug reports


@pytest.fixture
def spilled(tmp_path: Path) -> tuple[ClusterConfig, list[bytes]]:
    """A cluster whose diagnostics hold its secrets, in every form, and those secrets."""
    config = create_cluster(tmp_path / "c", "pbft")
    token = Tokens(config.client_folder("gateway")).add("app", "write")
    places = [config.node_folder(0) / "key.pem", config.node_folder(1) / "tls.key", config.folder / "ca.key"]
    places += [config.folder / "admin" / "key.pem", config.client_folder("cli") / "key.pem"]
    secrets = [token.encode()]
    text = f"GET /kv/x Authorization: Bearer {token}\nand {token}\nBearer other-kind-of-token\n".encode()
    for place in places:
        raw = certificate_seed(place)
        forms = [raw, raw.hex().encode(), base64.b64encode(raw).rstrip(b"="), repr(raw)[2:-1].encode()]
        body = [line for line in place.read_bytes().splitlines() if not line.startswith(b"-----")]
        secrets += [*forms, *body]
        text += b"\n".join([place.read_bytes(), *forms, *body]) + b"\n"
    text += b"-----BEGIN PRIVATE KEY-----\nof another cluster, cut o"
    (config.node_folder(0) / "node.log").write_bytes(b"began\n" + text)
    return config, [*secrets, b"other-kind-of-token", b"of another cluster"]


def certificate_seed(path: Path) -> bytes:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    none = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.Raw, serialization.PrivateFormat.Raw, none)


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def leaked(path: Path, secrets: list[bytes]) -> list[bytes]:
    whole = b"\n".join([path.read_bytes(), *contents(path).values()])
    return [secret for secret in secrets if secret in whole]


def test_no_secret_is_in_a_bundle(tmp_path: Path, spilled: tuple[ClusterConfig, list[bytes]]) -> None:
    config, secrets = spilled
    path = tmp_path / "report.zip"
    names = bundle.write(path, config, [doctor.Finding("size", doctor.State.GOOD, "n = 4")], {"sentence": "well"})
    assert not leaked(path, secrets)
    found = contents(path)
    assert {"findings.json", "status.json", "versions.json", "files.txt", "folder/cluster.toml"} <= {*names} == {*found}
    assert found["folder/node-0/node.log"].startswith(b"began\n")
    assert b"-rw------- " in found["files.txt"]
    assert not [name for name in found if name.endswith((".key", "key.pem", ".db", "tokens.toml"))]
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="is there already"):
        bundle.write(path, config, [], None)


@pytest.mark.parametrize("broken", ["secrets_in", "_PATTERNS", "redacted"])
def test_what_lets_a_secret_through_is_found_out(
    tmp_path: Path, spilled: tuple[ClusterConfig, list[bytes]], monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    wrong: dict[str, Any] = {"secrets_in": lambda _: [], "_PATTERNS": (), "redacted": lambda data, _: data}
    monkeypatch.setattr(bundle, broken, wrong[broken])
    bundle.write(tmp_path / "report.zip", spilled[0], [], None)
    assert leaked(tmp_path / "report.zip", spilled[1])


def test_the_command_makes_one(
    tmp_path: Path, spilled: tuple[ClusterConfig, list[bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "report.zip"
    assert cli.run(["doctor", "--bundle", str(path), "--cluster", str(spilled[0].folder)]) in (0, 1)
    assert "no key and no data" in capsys.readouterr().err
    assert not leaked(path, spilled[1])


def test_an_open_gateway_is_told(tmp_path: Path) -> None:
    config = create_cluster(tmp_path / "c", "raft")
    (closed,) = doctor.gateway(config)
    assert closed.state is doctor.State.GOOD
    (config.folder / "host.toml").write_text('version = 1\n[gateway]\nhost = "0.0.0.0"\n')
    (found,) = doctor.gateway(config)
    assert found.state is doctor.State.WARNING
    assert "serves whoever gets there" in found.rule
    Tokens(config.client_folder("gateway")).add("app", "read")
    (found,) = doctor.gateway(config)
    assert "in clear" in found.rule
