"""The OpenAPI 3.1 description of a gateway, made from the application's methods and their declared types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from pydantic import BaseModel

from replog.live.arguments import required
from replog.statemachine import Method

STALE = {
    "name": "stale",
    "in": "query",
    "description": "An old state will do: any one replica of Raft answers. PBFT reads as ever.",
    "schema": {"type": "boolean", "default": False},
}
COMPONENTS = "#/components/schemas/{name}"
PROBLEMS = {
    "400": "The request is malformed.",
    "404": "No such method, route or key.",
    "409": "The application refused: in conflict with the present state.",
    "413": "Larger than request_bytes_max: not sent.",
    "422": "Wrong arguments, or the application refused.",
    "503": "Not executed: overloaded, or no quorum. Try again later.",
    "504": "No answer in time: executed or not is unknown.",
}


def description(
    name: str, version: str, methods: Mapping[str, Method], models: tuple[type[BaseModel], ...], *, key_value: bool
) -> dict[str, Any]:
    """`models`: the bodies of answers, the first for a result, the second for an error."""
    answer, problem = (model.__name__ for model in models)
    paths = {f"/call/{method.name}": {"post": _call(method, answer, problem)} for method in methods.values()}
    if key_value:
        paths |= _kv_paths(answer, problem)
    schemas = {model.__name__: model.model_json_schema(ref_template="#/components/schemas/{model}") for model in models}
    return {
        "openapi": "3.1.0",
        "info": {"title": f"{name} on a replicated log", "version": version},
        "paths": paths | _own_paths(),
        "components": {"schemas": schemas},
    }


def _call(method: Method, answer: str, problem: str) -> dict[str, Any]:
    types = [parameter.type for parameter in method.parameters]
    found, _ = msgspec.json.schema_components(types, ref_template=COMPONENTS)
    properties = {parameter.name: schema for parameter, schema in zip(method.parameters, found, strict=True)}
    by_name = {
        "type": "object",
        "properties": properties,
        "required": [parameter.name for parameter in required(method)],
        "additionalProperties": False,
    }
    least = len(required(method))
    in_order = {"type": "array", "prefixItems": found, "minItems": least, "maxItems": len(found)}
    operation = _operation(method.name, method.doc or method.signature, answer, problem)
    if method.reads:
        operation["parameters"] = [STALE]
    operation["requestBody"] = {
        "required": least > 0,
        "content": {"application/json": {"schema": {"oneOf": [in_order, by_name]}}},
    }
    return operation


def _kv_paths(answer: str, problem: str) -> dict[str, Any]:
    key = {"name": "key", "in": "path", "required": True, "schema": {"type": "string"}}
    prefix = {"name": "prefix", "in": "query", "schema": {"type": "string", "default": ""}}
    body = {"required": True, "content": {"text/plain": {"schema": {"type": "string"}}}}
    put = _operation("kv_put", "Set a key to the text in the body.", answer, problem)
    scan = _operation("kv_scan", "All keys with a prefix.", answer, problem)
    get = _operation("kv_get", "The value of a key; 404 if it has none.", answer, problem)
    return {
        "/kv/{key}": {
            "parameters": [key],
            "put": {**put, "requestBody": body},
            "get": {**get, "parameters": [STALE]},
            "delete": _operation("kv_delete", "Forget a key.", answer, problem),
        },
        "/kv": {"get": {**scan, "parameters": [prefix, STALE]}},
    }


def _own_paths() -> dict[str, Any]:
    def plain(name: str, text: str, kind: str = "application/json") -> dict[str, Any]:
        content = {kind: {"schema": {"type": "string" if kind == "text/plain" else "object"}}}
        return {"get": {"operationId": name, "summary": text, "responses": _responses({"200": (text, content)})}}

    return {
        "/status": plain("status", "What each replica says of itself, and one sentence."),
        "/metrics": plain("metrics", "Metrics in the Prometheus text format.", "text/plain"),
        "/healthz": plain("healthz", "200 while enough replicas are in sync to commit, else 503."),
        "/openapi.json": plain("openapi", "This description."),
    }


def _operation(name: str, text: str, answer: str, problem: str) -> dict[str, Any]:
    responses = {"200": ("Executed.", _json(answer))}
    responses |= {status: (said, _json(problem)) for status, said in PROBLEMS.items()}
    return {"operationId": name, "summary": text.splitlines()[0], "responses": _responses(responses)}


def _responses(responses: Mapping[str, tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    return {status: {"description": text, "content": content} for status, (text, content) in responses.items()}


def _json(model: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": COMPONENTS.format(name=model)}}}
