"""Sweeps: one scenario at many points, each with other values of some of its fields.

Here: reading `network.loss=0,0.01`, the product of all values, a scenario for each point. Not here: running them
(`compare.runner`), their table (`compare.report`).

A point is a scenario like any other, with a name of its own, `no-fault-with-network-loss-0-01-n-4`, and it knows what
it was made from.
"""

from __future__ import annotations

import json
import math
import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import product
from typing import Any, Final

from pydantic import ValidationError

from compare.scenario import Scenario, told
from replog.errors import ConfigError

POINTS_MAX: Final = 1_000
NAME_MAX: Final = 150
"""Characters of a point's name, which names files."""
Values = Mapping[str, Sequence[Any]]
"""Dotted names of fields, and what each is to be."""


def read(texts: Iterable[str]) -> dict[str, list[Any]]:
    """`["network.loss=0,0.01", "n=4,7"]` as names and values. A value is written as in TOML; a word needs no quotes.
    Raises ConfigError."""
    found: dict[str, list[Any]] = {}
    for text in texts:
        path, equals, values = text.partition("=")
        parts = _split(values)
        if not equals or not path.strip() or not all(parts):
            raise ConfigError(f"set {text!r:.80}: must be FIELD=VALUE or FIELD=VALUE,VALUE,...")
        if path.strip() in found:
            raise ConfigError(f"set {path.strip()}: must be given once, with all its values")
        found[path.strip()] = [_value(part) for part in parts]
    return found


def _split(text: str) -> list[str]:
    """At each comma that stands in no quotes and no brackets."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote and not parts[-1].endswith("\\") else quote
        elif character in "\"'":
            quote = character
        elif character == "," and not depth:
            parts.append("")
            continue
        depth += 0 if quote else (character in "[{") - (character in "]}")
        parts[-1] += character
    return [part.strip() for part in parts]


def _value(text: str) -> Any:
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return found["value"] if len(found) == 1 else text


def values_of(given: Mapping[str, Any]) -> dict[str, list[Any]]:
    """A list or tuple is several values, anything else is one. A value that is a list stands in a list."""
    return {path: list(value) if isinstance(value, (list, tuple)) else [value] for path, value in given.items()}


def points(scenario: Scenario, values: Values) -> list[Scenario]:
    """The scenario at each point, the last field changing fastest. Raises ConfigError naming field, value and rule."""
    for path, several in values.items():
        if not several:
            raise ConfigError(f"set {path}: must have a value")
        for place, value in enumerate(several):
            if value in several[:place]:
                raise ConfigError(f"set {path} = {value!r:.80}: must be there once")
    if (number := math.prod(map(len, values.values()))) > POINTS_MAX:
        raise ConfigError(f"set {', '.join(values)}: must make no more than {POINTS_MAX:,} points, not {number:,}")
    return [at(scenario, dict(zip(values, chosen, strict=True))) for chosen in product(*values.values())]


def at(scenario: Scenario, settings: Mapping[str, Any]) -> Scenario:
    """The scenario with these fields set. Raises ConfigError naming field, value and rule."""
    if not settings:
        return scenario
    if scenario.drawn:
        raise ConfigError(
            f"set {next(iter(settings))}: nothing can be set in {scenario.name}, which is drawn from seeds"
        )
    data = scenario.model_dump()
    for path, value in settings.items():
        _put(data, path, value)
    data["name"] = _name(scenario.name, settings)
    try:
        found = Scenario.model_validate(data)
    except ValidationError as error:
        raise _refused(settings, error) from None
    found._file, found._attack = scenario.handle, scenario.added
    found._base, found._settings = scenario.base, {**scenario.settings, **settings}
    return found


def flags(settings: Mapping[str, Any]) -> str:
    """What to give to `replog compare` for these settings, with a blank before each."""
    return "".join(f" --set {shlex.quote(f'{path}={_text(value)}')}" for path, value in settings.items())


def _text(value: Any) -> str:
    """As `read` takes it."""
    bare = isinstance(value, str) and value != "" and _split(value) == [value] and _value(value) == value
    return str(value) if bare else _toml(value)


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(name)} = {_toml(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False, default=str)


def _put(data: dict[str, Any], path: str, value: Any) -> None:
    """Raises ConfigError for a place that there cannot be; whether there is one is for the model to say."""
    if path in ("name", "drawn"):
        raise ConfigError(f"set {path} = {value!r:.80}: must be left as it is")
    *outer, last = path.split(".")
    inner: Any = data
    for depth, part in enumerate(outer, 1):
        inner = _entry(inner, part, path, ".".join(outer[:depth]))
    if isinstance(inner, list):
        _entry(inner, last, path, path)
        inner[int(last)] = value
    else:
        inner[last] = value


def _entry(inner: Any, part: str, path: str, so_far: str) -> Any:
    """What stands in there under this name or number; a table that is left out begins empty."""
    if isinstance(inner, list):
        if not part.isdecimal() or int(part) >= len(inner):
            there = f"0 .. {len(inner) - 1}" if inner else "none"
            raise ConfigError(f"set {path}: {so_far}: there is no such entry, but {there}")
        return inner[int(part)]
    found = inner.get(part)
    if isinstance(found, tuple):
        found = inner[part] = list(found)
    elif found is None:
        found = inner[part] = {}
    if not isinstance(found, (dict, list)):
        raise ConfigError(f"set {path}: {so_far} = {found!r:.80}: has no fields")
    return found


def _refused(settings: Mapping[str, Any], error: ValidationError) -> ConfigError:
    """With the setting at fault where the rule is about one, else with all of them."""
    where, value, rule = told(error)
    field = ".".join(map(str, where))
    shown = f" = {value!r:.80}" if isinstance(value, (str, int, float)) else ""
    if field in settings:
        return ConfigError(f"set {field}{shown}: {rule}")
    near = [path for path in settings if field.startswith(f"{path}.") or path.startswith(f"{field}.")] or settings
    given = ", ".join(f"{path} = {settings[path]!r:.80}" for path in near)
    return ConfigError(f"set {given}: {field or 'scenario'}{shown}: {rule}")


def _name(scenario: str, settings: Mapping[str, Any]) -> str:
    """Of a point: kebab, and another one for another point."""
    told_all = " ".join(f"{path} {_text(value).replace('-', 'minus ')}" for path, value in settings.items())
    words = re.sub("[^a-z0-9]+", "-", told_all.lower()).strip("-")
    name = f"{scenario}-with-{words}"
    if len(name) <= NAME_MAX:
        return name
    return f"{name[: NAME_MAX - 9].rstrip('-')}-{blake2b(told_all.encode(), digest_size=4).hexdigest()}"
