"""The cluster file: what is made can be read, and whatever is wrong is one line that names field, value and rule."""

from pathlib import Path
from typing import Any

import pytest

from replog import config, protocols
from replog.config import FILE, ClusterConfig, create_cluster, load_app, toml_of
from replog.errors import ConfigError
from replog.membership import ADMIN
from replog.storage import Storage
from tests import toy


@pytest.fixture(autouse=True)
def only_the_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> object:
        if name != "toy":
            raise LookupError(f"no protocol {name!r}; known: toy")
        return toy.SPEC

    monkeypatch.setattr(protocols, "find", find)


def test_what_is_made_can_be_read(tmp_path: Path) -> None:
    made = create_cluster(tmp_path / "c", "toy", options={"checkpoint_interval": 7}, port=5000, lab=True)
    read = ClusterConfig.load(tmp_path / "c")
    assert read == made
    assert (read.n, read.f, read.nodes[0].port, read.lab) == (1, 0, 5000, True)
    assert read.protocol_options().checkpoint_interval == 7
    assert (read.app_name, read.app_version) == ("kv", "1") or read.app_name
    assert set(read.public_keys()) == {0, "gateway", "cli", ADMIN}
    assert all(len(key) == 32 for key in read.public_keys().values())
    for name in ("ca.pem", "node-0/key.pem", "node-0/log.db", "node-0/state.db", "client-cli/tls.pem"):
        assert (tmp_path / "c" / name).is_file()


def test_of_two_that_are_made_at_once_the_later_is_told_of_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = config.write_cluster

    def meanwhile(folder: Path, values: dict[str, Any]) -> None:
        write(folder, values)
        monkeypatch.setattr(config, "write_cluster", write)
        create_cluster(tmp_path / "c", "toy")

    monkeypatch.setattr(config, "write_cluster", meanwhile)
    with pytest.raises(ConfigError, match=r"/c: holds a cluster already; start that one"):
        create_cluster(tmp_path / "c", "toy")
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    assert ClusterConfig.load(tmp_path / "c").n == 1


def test_two_clusters_never_share_an_identity(tmp_path: Path) -> None:
    one, two = (create_cluster(tmp_path / name, "toy") for name in ("one", "two"))
    assert one.cluster != two.cluster
    assert not set(one.public_keys().values()) & set(two.public_keys().values())


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"protocol": "pbtf"}, r"protocol = 'pbtf': no protocol 'pbtf'; known: toy"),
        ({"f": 1}, r"n = 1, f = 1: an unreplicated server has n = 1 and f = 0"),
        ({"f": -1}, r"f = -1: must be within 0 \.\. 1024"),
        ({"n": 0}, r"n = 0: must be within 1 \.\. 1024"),
        ({"port": 65536}, r"port = 65536: .*within 1 \.\. 65535"),
        ({"port": [1, 2]}, r"port = \[1, 2\]: 1 replicas need 1 ports"),
        ({"clients": ("No One",)}, r"clients = 'No One': lower-case letters"),
        ({"options": {"speed": 9}}, r"options of toy: speed = 9: there is no such field"),
        ({"app": "nowhere"}, r"app = 'nowhere': must be module:Class"),
        ({"app": "nowhere.at.all:X"}, r"app = 'nowhere.at.all:X': .* ModuleNotFoundError: No module named 'nowhere'"),
        ({"app": "replog.types:Request"}, r"replog.types has no StateMachine named Request"),
        ({"app": "nofile.py:X"}, r"app = 'nofile.py:X': no file nofile.py"),
        ({"app": "replog.apps.kv:StateMachine"}, r"is the base class of applications"),
        ({"durability": "mostly"}, r"durability = 'mostly': must be 'always', 'periodic' or 'memory'"),
        ({"host": ""}, r"nodes\.0\.host = '': must have at least 1 character"),
    ],
)
def test_a_wrong_value_is_one_line_and_leaves_nothing(tmp_path: Path, arguments: dict[str, object], error: str) -> None:
    with pytest.raises(ConfigError, match=error) as caught:
        create_cluster(tmp_path / "c", **{"protocol": "toy", **arguments})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("existing", [False, True])
def test_an_interrupted_making_leaves_a_place_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    folder = tmp_path / "c"
    if existing:
        folder.mkdir()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Storage, "create", interrupted)
        with pytest.raises(KeyboardInterrupt):
            create_cluster(folder, "toy")
    assert [path.name for path in tmp_path.rglob("*")] == ["c"] * existing
    (folder if existing else tmp_path).joinpath(".new-killed").mkdir()
    create_cluster(folder, "toy")


def test_an_existing_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds 'notes\.txt' and no cluster\.toml"):
        create_cluster(tmp_path, "toy")
    create_cluster(tmp_path / "c", "toy")
    with pytest.raises(ConfigError, match="holds a cluster already"):
        create_cluster(tmp_path / "c", "toy")
    with pytest.raises(ConfigError, match="is not a folder"):
        create_cluster(tmp_path / "notes.txt", "toy")


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("\nn = 1", "\nn = 2", r"nodes = \[0\]: must be 0 \.\. n-1 in order, n = 2"),
        ("f = 0", "f = 1", r"an unreplicated server has n = 1 and f = 0"),
        ("lab = false", 'lab = "yes please"', r"lab = 'yes please': must be a valid boolean"),
        ("lab = false", "lob = false", r"lob = False: there is no such field"),
        (
            'durability = "always"',
            'durability = "mostly"',
            r"durability = 'mostly': must be 'always', 'periodic' or 'memory'",
        ),
        ("port = 4700", "port = 0", r"nodes\.0\.port = 0: .*greater than or equal to 1"),
        ("version = 1", "version = 2", r"version = 2: must be 1"),
        ('protocol = "toy"', 'protocol = "toys"', r"no protocol 'toys'; known: toy"),
        ("\nn = 1", "\nn = ", r"Invalid value"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it(tmp_path: Path, old: str, new: str, error: str) -> None:
    create_cluster(tmp_path / "c", "toy")
    path = tmp_path / "c" / FILE
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=error) as caught:
        ClusterConfig.load(tmp_path / "c")
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cluster\.toml: no such file; `replog up`"):
        ClusterConfig.load(tmp_path)


APP = """
from replog.statemachine import StateMachine, query

class Mine(StateMachine):
    version = "{version}"
    count: int = 0

    @query
    def look(self) -> int:
        return self.count
"""


def test_an_application_of_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(APP.format(version="1"))
    monkeypatch.chdir(tmp_path)
    config = create_cluster(tmp_path / "c", "toy", app="mine.py:Mine")
    assert config.app == f"{tmp_path / 'mine.py'}:Mine"
    assert config.machine().__name__ == "Mine"
    (tmp_path / "mine.py").write_text(APP.format(version="2 "))
    with pytest.raises(ConfigError, match="every replica needs the same code"):
        config.machine()


def test_an_application_is_found_by_module_or_file(tmp_path: Path) -> None:
    assert load_app("replog.apps.kv:KeyValue").__name__ == "KeyValue"


def test_values_survive_the_file(tmp_path: Path) -> None:
    import tomllib

    values = {"text": 'a "quote" \\ and\nline', "list": [1, 2], "deep": {"on": True, "x": {"y": 1.5}}, "none": {}}
    read = tomllib.loads(toml_of({**values, "tables": [{"a": 1}, {"a": 2}]}))
    del values["none"]
    assert read == {**values, "tables": [{"a": 1}, {"a": 2}]}
    with pytest.raises(ConfigError, match="only texts"):
        toml_of({"bad": None})
