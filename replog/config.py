"""A cluster as its file describes it: `DIR/cluster.toml`, read and written here, and the folders beside it.

    DIR/cluster.toml             who belongs to it, which protocol, which application
    DIR/ca.pem, ca.key           the cluster's own certificate authority
    DIR/identities.pem           its certificates of all identity keys: public, for evidence
    DIR/admin/                   key.pem: the administrator's, under which members change
    DIR/node-K/                  key.pem (identity, Ed25519), tls.pem, tls.key, then the replica's log.db and state.db;
                                 of one that joined later also member.toml (`replog.enrolment`)
    DIR/client-NAME/             key.pem, tls.pem, tls.key

Not here: what is inside keys and certificates (`replog.certificates`), what a replica stores (`replog.storage`).
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import re
import secrets
import shutil
import sys
import tomllib
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from replog import certificates, protocols
from replog.access import Access, Registered, beginning
from replog.codec import Domain
from replog.errors import ConfigError
from replog.membership import ADMIN, Configuration, Member, genesis
from replog.storage import Storage
from replog.types import Principal

if TYPE_CHECKING:
    from replog.core import ProtocolSpec
    from replog.statemachine import StateMachine

FILE = "cluster.toml"
IDENTITIES = "identities.pem"
ADMIN_FOLDER = "admin"
ASIDE = ".new-"
"""How the name of a cluster's folder begins while it is made."""
NODES_MAX = 1024
PORT_MAX = 65535
NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
Durability = Literal["always", "periodic", "memory"]
TraceLevel = Literal["off", "decisions", "all"]
PublicKey = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Port = Annotated[int, Field(ge=1, le=PORT_MAX)]


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NodeConfig(Closed):
    """One replica: its id, where it listens, its public identity key (hex)."""

    id: Annotated[int, Field(ge=0, lt=NODES_MAX)]
    host: Annotated[str, Field(min_length=1)]
    port: Port
    public_key: PublicKey

    @property
    def member(self) -> Member:
        return Member(self.id, self.host, self.port, bytes.fromhex(self.public_key))


class ClientConfig(Closed):
    """A client that may connect, its public key (hex), and what it may do (`replog.access`) until that is changed."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
    public_key: PublicKey
    role: Literal["read", "write", "admin"] = "write"


LINKS = "links"
"""The word for a protocol that has no option `auth`."""


class ClusterConfig(Closed):
    """Invariants: nodes are 0 .. n-1 in order; n and f suit the protocol; options are the protocol's own.

    `n`, `f` and `nodes` are those that the cluster was made with; who the members are now: `replog.roster`.
    `admin`: the public key under whose signature they change; None: they do not.
    """

    version: Literal[1] = 1
    cluster: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    protocol: str
    n: Annotated[int, Field(ge=1, le=NODES_MAX)]
    f: Annotated[int, Field(ge=0)]
    app: str
    app_name: str
    app_version: str
    durability: Durability = "always"
    lab: bool = False
    trace: TraceLevel = "off"
    archive_bytes: Annotated[int, Field(ge=0, le=2**40)] = 256 * 1024 * 1024
    admin: PublicKey | None = None
    options: dict[str, Any] = {}
    nodes: list[NodeConfig]
    clients: list[ClientConfig]
    _folder: Path = PrivateAttr(default=Path())

    @model_validator(mode="after")
    def _fits(self) -> ClusterConfig:
        if [node.id for node in self.nodes] != list(range(self.n)):
            raise ValueError(f"nodes = {[node.id for node in self.nodes]}: must be 0 .. n-1 in order, n = {self.n}")
        names = [client.name for client in self.clients]
        if len(set(names)) != len(names):
            raise ValueError(f"clients = {names}: each name once")
        spec = spec_of(self.protocol)
        spec.check_size(self.n, self.f)
        options_of(spec, self.options)
        return self

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> ClusterConfig:
        """Read `folder`/cluster.toml. Raises ConfigError naming file, field, value and rule."""
        path = Path(folder) / FILE
        try:
            config = cls.model_validate(tomllib.loads(path.read_text()))
        except FileNotFoundError:
            raise ConfigError(f"{path}: no such file; `replog up` makes a cluster folder") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{path}: {error}") from None
        except ValidationError as error:
            raise ConfigError(f"{path}: {first_fault(error)}") from None
        config._folder = path.parent.absolute()
        return config

    # ------------------------------------------------------------------------------------------------ what it means

    @property
    def folder(self) -> Path:
        return self._folder

    def node_folder(self, node: int) -> Path:
        return self._folder / f"node-{node}"

    def client_folder(self, name: str) -> Path:
        return self._folder / f"client-{name}"

    @property
    def spec(self) -> ProtocolSpec:
        return protocols.find(self.protocol)

    def protocol_options(self) -> Any:
        return self.spec.options(self.options)

    @property
    def auth(self) -> str:
        """How requests and votes are authenticated: as the protocol's option says, or by the links alone."""
        return str(getattr(self.protocol_options(), "auth", LINKS))

    @property
    def robust(self) -> bool | list[str] | None:
        """Whether, or by which measures, the service is kept useful under attack; None where there are none."""
        robust: bool | list[str] | None = getattr(self.protocol_options(), "robust", None)
        return robust

    @property
    def domain(self) -> Domain:
        return Domain(self.cluster)

    def public_keys(self) -> dict[Principal, bytes]:
        keys: dict[Principal, bytes] = {node.id: bytes.fromhex(node.public_key) for node in self.nodes}
        keys.update({client.name: bytes.fromhex(client.public_key) for client in self.clients})
        if self.admin is not None:
            keys[ADMIN] = bytes.fromhex(self.admin)
        return keys

    @property
    def genesis(self) -> Configuration:
        """The members that the cluster was made with."""
        return genesis(self.f, [node.member for node in self.nodes])

    @property
    def access(self) -> Access:
        """The clients that the cluster was made with, and what each may do."""
        return beginning([Registered(c.name, bytes.fromhex(c.public_key), c.role) for c in self.clients])

    @property
    def _app_place(self) -> str:
        """A file that is named without a leading slash goes along with the folder."""
        place, _, name = self.app.rpartition(":")
        return f"{self._folder / place}:{name}" if place.endswith(".py") else self.app

    def machine(self) -> type[StateMachine]:
        """The application's class. Raises ConfigError if it is not the one that this cluster was made for."""
        machine = load_app(self._app_place)
        if app_identity(machine) != (self.app_name, self.app_version):
            name, version = app_identity(machine)
            raise ConfigError(
                f"app = {self.app!r}: is {name} version {version}, this cluster runs {self.app_name} version "
                f"{self.app_version}; every replica needs the same code"
            )
        return machine


# --------------------------------------------------------------------------------------------------------- creation


def create_cluster(
    folder: str | os.PathLike[str],
    protocol: str,
    *,
    f: int | None = None,
    n: int | None = None,
    app: str | type[StateMachine] = "replog.apps.kv:KeyValue",
    host: str = "127.0.0.1",
    port: int | Sequence[int] = 4700,
    options: dict[str, Any] | None = None,
    clients: Sequence[str] = ("gateway", "cli"),
    durability: Durability = "always",
    lab: bool = False,
    trace: TraceLevel = "off",
) -> ClusterConfig:
    """Make a new cluster in `folder`, which is whole or, whatever interrupts the making, not there.

    Without `n` the least that stands `f` faults; without `f` the most that `n` stand; without both f = 1.
    `port`: node K listens on port + K, or on port[K]. Of a protocol that has it, `robust` is on unless `options` say
    otherwise. Raises ConfigError, and touches nothing, if `folder` holds anything already (HAZARDS X3) or a value is
    wrong.
    """
    folder = Path(folder).absolute()
    n, f = size_of(protocol, n, f)
    ports = _ports(port, n)
    _check_names(clients)
    options = for_use(protocol, options or {})
    chosen = {"protocol": protocol, "n": n, "f": f, **application_of(app)}
    chosen |= {"durability": durability, "lab": lab, "trace": trace, "options": options}
    refuse_existing(folder)
    with made_aside(folder) as made:
        write_cluster(made, {"version": 1, **chosen, **_enroll(made, f, host, ports, clients)})
    return ClusterConfig.load(folder)


def for_use(protocol: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options of a cluster for use. They are written down, so that it stays what it was made as whatever a later
    version takes for granted."""
    has_it = hasattr(options_of(spec_of(protocol), given), "robust")
    return {"robust": True, **given} if has_it else given


def _ports(port: int | Sequence[int], n: int) -> list[int]:
    ports = [port + node for node in range(n)] if isinstance(port, int) else list(port)
    if len(ports) != n or not all(1 <= number <= PORT_MAX for number in ports):
        raise ConfigError(f"port = {port!r:.80}: {n} replicas need {n} ports within 1 .. {PORT_MAX}")
    return ports


def _check_names(clients: Sequence[str]) -> None:
    for name in clients:
        if not NAME.fullmatch(name):
            raise ConfigError(f"clients = {name!r}: lower-case letters, digits and hyphens, a letter first, at most 63")


def application_of(app: str | type[StateMachine]) -> dict[str, str]:
    """Where the application is found, and what it says it is. Raises ConfigError."""
    from replog.statemachine import StateMachine

    place, machine = (app_path(app), app) if isinstance(app, type) else (absolute_app(app), load_app(app))
    if machine is StateMachine:
        raise ConfigError(f"app = {place!r}: is the base class of applications; name a class that inherits from it")
    name, version = app_identity(machine)
    return {"app": place, "app_name": name, "app_version": version}


def _enroll(folder: Path, f: int, host: str, ports: Sequence[int], clients: Sequence[str]) -> dict[str, Any]:
    """Make keys, certificates and empty storage of everybody; the cluster and its members as cluster.toml has them."""
    authority = certificates.Authority.make(folder, cluster := secrets.token_hex(16))
    (folder / ADMIN_FOLDER).mkdir(mode=0o700)
    admin = certificates.make_key(folder / ADMIN_FOLDER)
    nodes: list[dict[str, Any]] = []
    for node, port in enumerate(ports):
        public_key = authority.enroll(folder / f"node-{node}", node)
        Storage.create(folder / f"node-{node}", storage_owner(cluster, node))
        nodes.append({"id": node, "host": host, "port": port, "public_key": public_key})
    users = [{"name": name, "public_key": authority.enroll(folder / f"client-{name}", name)} for name in clients]
    keys = {node["id"]: node["public_key"] for node in nodes} | {user["name"]: user["public_key"] for user in users}
    certified = [authority.certify(who, key, len(nodes), f) for who, key in keys.items()]
    certificates.write_new(folder / IDENTITIES, "".join(certified).encode(), mode=0o644)
    return {"cluster": cluster, "admin": admin, "nodes": nodes, "clients": users}


def write_cluster(folder: Path, values: dict[str, Any]) -> None:
    """Write cluster.toml, if it could be read back. Raises ConfigError."""
    try:
        ClusterConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(first_fault(error)) from None
    certificates.write_new(folder / FILE, toml_of(values).encode(), mode=0o644)


@contextlib.contextmanager
def made_aside(folder: Path) -> Iterator[Path]:
    """A folder to fill: it becomes `folder` when the block ends well and is removed otherwise.

    One that a kill leaves behind is in nobody's way.
    """
    place = folder if folder.is_dir() else folder.parent
    aside = place / f"{ASIDE}{secrets.token_hex(4)}"
    try:
        aside.mkdir(parents=True)
        yield aside
        _move(aside, folder)
    except OSError as error:
        refuse_existing(folder)  # where another was made meanwhile, that is the reason
        raise ConfigError(f"{folder}: cannot be made: {error.strerror or error}") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _move(aside: Path, folder: Path) -> None:
    """In one step where there was no `folder`. One that was may be a mount or somebody's working directory, so it is
    not replaced but filled: folders first, which cannot overwrite another's, and cluster.toml last."""
    if aside.parent != folder:
        aside.rename(folder)
        return
    for path in sorted(aside.iterdir(), key=lambda path: (path.is_file(), path.name == FILE)):
        path.rename(folder / path.name)


def storage_owner(cluster: str, node: int) -> str:
    """The name under which a replica's files know whose they are."""
    return f"cluster {cluster} node {node}"


def refuse_existing(folder: Path) -> None:
    if (folder / FILE).exists():
        raise ConfigError(f"{folder}: holds a cluster already; start that one, or choose another folder")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is not a folder")
    found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if strange := [name for name in found if not name.startswith(ASIDE)]:
        raise ConfigError(
            f"{folder}: holds {strange[0]!r} and no {FILE}; a cluster needs a folder that is new or empty"
        )


def spec_of(protocol: str) -> ProtocolSpec:
    try:
        return protocols.find(protocol)
    except (LookupError, ValueError) as error:
        raise ConfigError(f"protocol = {protocol!r}: {error.args[0]}") from None


def size_of(protocol: str, n: int | None = None, f: int | None = None) -> tuple[int, int]:
    """n and f of a new cluster, the missing ones by the rule of `create_cluster`. Raises ConfigError."""
    spec = spec_of(protocol)
    if f is not None and not 0 <= f <= NODES_MAX:
        raise ConfigError(f"f = {f}: must be within 0 .. {NODES_MAX}")
    if n is not None and not 1 <= n <= NODES_MAX:
        raise ConfigError(f"n = {n}: must be within 1 .. {NODES_MAX}")
    size = spec.replicas(1 if f is None else f) if n is None else n
    if size > NODES_MAX:
        raise ConfigError(f"f = {f}: takes n = {size} replicas of {protocol}; n must be at most {NODES_MAX}")
    faults = spec.faults(size) if f is None else f
    try:
        spec.check_size(size, faults)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return size, faults


def options_of(spec: ProtocolSpec, given: dict[str, Any]) -> Any:
    try:
        return spec.options(given)
    except ValidationError as error:
        raise ConfigError(f"options of {spec.name}: {first_fault(error)}") from None


def first_fault(error: ValidationError) -> str:
    """One line of a pydantic error: field, value, rule, and how many more there are."""
    fault, *more = error.errors(include_url=False)
    field = ".".join(map(str, fault["loc"]))
    value = "" if fault["type"] == "missing" else f" = {fault['input']!r:.80}"
    text = f"{field}{value}: {rule_of(fault['msg'])}" if field else rule_of(fault["msg"])
    return f"{text} (and {len(more)} more)" if more else text


PHRASES = (
    (r"^Value error, ", ""),
    (r"^\w+ should (be|have|match) ", r"must \1 "),
    (r", (unable to (?:parse|interpret)|got a number with).*", ""),
    (r"a valid dictionary( or instance of \w+)?$", "a table"),
    (r"a valid (tuple|list)$", "a list"),
    (r"^Field required$", "is missing"),
    (r"^Extra inputs are not permitted$", "there is no such field"),
)
"""What pydantic says, and what we say."""


def rule_of(message: str) -> str:
    """What is wrong, as pydantic says it, in our words."""
    for theirs, ours in PHRASES:
        message = re.sub(theirs, ours, message)
    return message


# ------------------------------------------------------------------------------------------------------ application


def load_app(app: str) -> type[StateMachine]:
    """The application's class that `app` names. Raises ConfigError."""
    from replog.statemachine import StateMachine

    return load_class("app", app, StateMachine)


Kind = TypeVar("Kind")


def load_class(field: str, given: str, kind: type[Kind]) -> type[Kind]:
    """The class that `module:Class` or `path/to/file.py:Class` names. Raises ConfigError, also for what the module
    itself raises: it is the user's code."""
    place, _, name = given.rpartition(":")
    if not place or not name:
        raise ConfigError(f"{field} = {given!r}: must be module:Class or path/to/file.py:Class")
    try:
        found = _module_of_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
        for part in name.split("."):
            found = getattr(found, part, None)
    except ConfigError as error:
        raise ConfigError(f"{field} = {given!r}: {error}") from None
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{field} = {given!r}: it does not load: {_told(error)}") from error
    if not isinstance(found, type) or not issubclass(found, kind):
        raise ConfigError(f"{field} = {given!r}: {place} has no {kind.__name__} named {name}")
    return found


def _told(error: BaseException) -> str:
    """One line on what a module raised, with the line of it that did; a SyntaxError names its own."""
    words = " ".join(str(error).split())[:300]
    told = f"{type(error).__name__}: {words}" if words else type(error).__name__
    if isinstance(error, SyntaxError):
        return told
    lines = ((frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__))
    outside = (place for place in lines if place[0] != __file__ and not _is_importing(place[0]))
    file, line = next(outside, ("", 0))
    return f"{told} ({Path(file).name}, line {line})" if file else told


def _is_importing(file: str) -> bool:
    return file.startswith("<frozen importlib") or file == importlib.__file__


def _module_of_file(path: Path) -> Any:
    if not path.is_file():
        raise ConfigError(f"no file {path}")
    name = f"replog_app_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def absolute_app(app: str) -> str:
    """The same application, named so that it is found from any working directory."""
    place, _, name = app.rpartition(":")
    return f"{Path(place).absolute()}:{name}" if place.endswith(".py") else app


def app_path(machine: type[StateMachine]) -> str:
    """How another process can name this class; one of a script is named by its file."""
    module = sys.modules[machine.__module__]
    if machine.__module__ == "__main__" and getattr(module, "__file__", None):
        return f"{Path(str(module.__file__)).absolute()}:{machine.__qualname__}"
    return f"{machine.__module__}:{machine.__qualname__}"


def app_identity(machine: type[StateMachine]) -> tuple[str, str]:
    """(name, version): the class's `name` and `version` where it gives them."""
    return str(getattr(machine, "name", machine.__name__)), str(getattr(machine, "version", "1"))


# ------------------------------------------------------------------------------------------------------------- TOML


def toml_of(values: dict[str, Any]) -> str:
    """Plain values as TOML: simple ones first, then tables and lists of tables."""
    return "\n".join(_table(values, ())).lstrip() + "\n"


def _table(values: dict[str, Any], path: tuple[str, ...]) -> list[str]:
    lines, below = [], []
    for key, value in values.items():
        name = (*path, key)
        if isinstance(value, dict):
            below += ["", f"[{'.'.join(name)}]", *_table(value, name)] if value else []
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for item in value:
                below += ["", f"[[{'.'.join(name)}]]", *_table(item, name)]
        else:
            lines.append(f"{key} = {_scalar(value)}")
    return lines + below


def _scalar(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_scalar, value))}]"
    if isinstance(value, str | bool | int | float):
        return json.dumps(value)
    raise ConfigError(f"{value!r}: only texts, numbers, booleans, lists and tables can be written to {FILE}")
