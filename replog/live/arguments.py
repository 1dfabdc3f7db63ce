"""Arguments for an application's methods, made from what a person typed or a program posted.

Serves the command (`replog call`) and the gateway (`POST /call/METHOD`). Conversion happens in the client: what reaches
the log has the declared types, or the call never leaves.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from replog.errors import ConfigError
from replog.statemachine import Method, Parameter
from replog.table import MISSING, encode


class WrongArguments(ConfigError):
    """Arguments that the method does not take; the text names the argument, the rule and the signature."""


class Unencodable(WrongArguments):
    """Arguments that no method can take: no operation can carry them."""


def required(method: Method) -> list[Parameter]:
    return [parameter for parameter in method.parameters if parameter.default is MISSING]


def of_values(method: Method, given: Sequence[Any] | Mapping[str, Any]) -> list[Any]:
    """Plain values (of JSON), in order or by name, as the declared types. Raises WrongArguments."""
    values = _by_name(method, given) if isinstance(given, Mapping) else list(given)
    _check_number(method, len(values))
    return [_plain(method, *pair) for pair in zip(method.parameters, values, strict=False)]


def of_texts(method: Method, texts: Sequence[str]) -> list[Any]:
    """Arguments of a command line: JSON where a text parses and the type takes it, else the text itself.

    Raises WrongArguments.
    """
    _check_number(method, len(texts))
    return [_read(method, *pair) for pair in zip(method.parameters, texts, strict=False)]


def _by_name(method: Method, given: Mapping[str, Any]) -> list[Any]:
    """In order, with the defaults of what is not given."""
    names = [parameter.name for parameter in method.parameters]
    if unknown := sorted(set(given) - set(names)):
        raise WrongArguments(f"{unknown[0]}: no such argument; {method.signature}")
    for parameter in required(method):
        if parameter.name not in given:
            raise WrongArguments(f"{parameter.name}: is missing; {method.signature}")
    return [given.get(parameter.name, parameter.default) for parameter in method.parameters]


def _check_number(method: Method, count: int) -> None:
    least, most = len(required(method)), len(method.parameters)
    if not least <= count <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        given = f"{count} argument{'' if count == 1 else 's'} given"
        raise WrongArguments(f"{given}, {wanted} taken; {method.signature}")


def _plain(method: Method, parameter: Parameter, value: Any) -> Any:
    """`value` as the declared type, in the plain form in which operations are encoded."""
    given = f"{parameter.name} = {value!r:.80}"
    try:
        plain = msgspec.to_builtins(msgspec.convert(value, parameter.type), builtin_types=(bytes,))
        encode(plain)
    except msgspec.ValidationError as error:
        rule = str(error).replace("Expected", "must be").replace("`", "")
        raise WrongArguments(f"{given}: {rule}; {method.signature}") from None
    except OverflowError:
        raise Unencodable(f"{given}: an integer must be within -2^63 .. 2^64 - 1; {method.signature}") from None
    except UnicodeEncodeError:
        raise Unencodable(f"{given}: text must be Unicode that UTF-8 can hold; {method.signature}") from None
    return plain


def _read(method: Method, parameter: Parameter, text: str) -> Any:
    if parameter.type is bytes:
        return os.fsencode(text)
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return _plain(method, parameter, text)
    try:
        return _plain(method, parameter, parsed)
    except WrongArguments:
        if _takes_text(parameter.type):
            return _plain(method, parameter, text)
        raise


def _takes_text(type_: Any) -> bool:
    try:
        msgspec.convert("", type_)
    except msgspec.ValidationError:
        return False
    return True
