"""What is particular to one machine: `DIR/host.toml` in a folder that `replog init` has made for it.

Who belongs to the cluster, and where the others find them, is in cluster.toml, the same everywhere. A folder without
host.toml is that of a cluster on one machine (`replog up`).
"""

from __future__ import annotations

import ipaddress
import tomllib
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from replog.config import PORT_MAX, Closed, ClusterConfig, NodeConfig, Port, first_fault
from replog.errors import ConfigError
from replog.types import Principal

FILE: Final = "host.toml"
GATEWAY: Final = "gateway"
"""The client under whose key a gateway speaks, where host.toml names no other."""
PORT_OFFSET: Final = 100
"""By so much the gateway's port is above the replica's, if nothing else is said."""
LOOPBACK: Final = "127.0.0.1"

Address = Annotated[str, Field(min_length=1, max_length=255)]


class GatewayConfig(Closed):
    """`tls`: serve HTTPS under the gateway's own certificate. `certificates`: let in who shows a certificate of a
    registered client; takes `tls`."""

    client: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")] = GATEWAY
    host: Address | None = None
    port: Port | None = None
    tls: bool = False
    certificates: bool = False


class HostConfig(Closed):
    """`node`: the replica that runs here, None where none does. `bind`, `bind_port`: where it listens, if that is not
    where the others find it."""

    version: Literal[1] = 1
    node: Annotated[int, Field(ge=0)] | None = None
    bind: Address | None = None
    bind_port: Port | None = None
    gateway: GatewayConfig = GatewayConfig()

    @classmethod
    def of(cls, config: ClusterConfig) -> HostConfig:
        """As the file says, or as things are without one. Raises ConfigError."""
        path = config.folder / FILE
        try:
            found = cls.model_validate(tomllib.loads(path.read_text()))
        except FileNotFoundError:
            return cls()
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{path}: {error}") from None
        except ValidationError as error:
            raise ConfigError(f"{path}: {first_fault(error)}") from None
        if found.gateway.certificates and not found.gateway.tls:
            raise ConfigError(f"{path}: gateway.certificates = true: takes gateway.tls = true")
        return found

    def listens_at(self, own: NodeConfig) -> tuple[str, int]:
        """Host and port that this machine's replica binds; of another replica, where it is found."""
        if own.id != self.node:
            return own.host, own.port
        return self.bind or own.host, self.bind_port or own.port


def gateway_place(config: ClusterConfig) -> tuple[str, int]:
    """Host and port of the gateway: on loopback, 100 above the replica, unless host.toml says otherwise. Raises
    ConfigError where there is no such port."""
    host = HostConfig.of(config)
    near = config.nodes[host.node if host.node is not None and host.node < config.n else 0]
    port = host.gateway.port or near.port + PORT_OFFSET
    if port > PORT_MAX:
        raise ConfigError(f"port = {near.port}: the gateway listens {PORT_OFFSET} above, {port} is beyond {PORT_MAX}")
    return host.gateway.host or (near.host if is_loopback(near.host) else LOOPBACK), port


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine gets there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def gateway_hosts(config: ClusterConfig, who: Principal) -> tuple[str, ...]:
    """Under which names a gateway may serve HTTPS: of the replica that has its number, and on its own machine. Nobody
    else is certified for any: those who trust the authority would believe it."""
    kind, _, number = who.partition("-") if isinstance(who, str) else ("", "", "")
    node = int(number) if number.isascii() and number.isdigit() else 0 if not number else config.n
    return (config.nodes[node].host, "localhost", LOOPBACK) if kind == GATEWAY and node < config.n else ()
