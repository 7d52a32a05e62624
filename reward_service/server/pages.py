"""The page `/docs`: the API's description as plain HTML, without scripts or anything from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "h2{border-top:1px solid #ccc;padding-top:1rem}code,pre{font:14px/1.4 ui-monospace,monospace;background:#f4f4f4}"
    "pre{padding:.7rem;overflow:auto}table{border-collapse:collapse}"
    "td,th{border:1px solid #ccc;padding:.2rem .5rem;text-align:left;vertical-align:top}"
)


def api_page(description: Mapping[str, Any]) -> str:
    """The page for an OpenAPI description."""
    info = description["info"]
    body = "".join((*_routes(description), *_schemas(description)))
    title = escape(f"{info['title']} {info['version']}")
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style><h1>{title}</h1>"
        f"<p>{_text(info.get('description', ''))}</p><p>The same for programs: <a href=openapi.json>openapi.json</a></p>{body}</html>"
    )


def _routes(description: Mapping[str, Any]) -> Iterator[str]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{_text(operation.get('description', ''))}</p>"
            for media, content in operation.get("requestBody", {}).get("content", {}).items():
                yield f"<p>Body: <code>{escape(media)}</code>, {_type(content['schema'])}</p>"
                if "example" in content:
                    yield f"<pre>{escape(json.dumps(content['example'], indent=2))}</pre>"
            rows = "".join(f"<tr><td>{status}<td>{_text(answer['description'])}" for status, answer in operation["responses"].items())
            yield f"<table><tr><th>Status<th>Meaning{rows}</table>"


def _schemas(description: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>Objects</h2>"
    for name, schema in sorted(description.get("components", {}).get("schemas", {}).items()):
        required = schema.get("required", ())
        rows = "".join(
            f"<tr><td><code>{escape(field)}</code><td>{_type(of)}<td>{'required' if field in required else _default(of)}"
            for field, of in schema.get("properties", {}).items()
        )
        yield f"<h3 id='{escape(name)}'>{escape(name)}</h3><p>{_text(schema.get('description', ''))}</p><table>{rows}</table>"


def _text(text: str) -> str:
    """Text with `code` marked as such."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))


def _default(schema: Mapping[str, Any]) -> str:
    return f"default <code>{escape(json.dumps(schema['default']))}</code>" if "default" in schema else "optional"


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f"<a href='#{name}'>{name}</a>"
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(_type(option) for option in schema[key])
    if "const" in schema or "enum" in schema:
        return " or ".join(f"<code>{escape(json.dumps(value))}</code>" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"array of {_type(schema.get('items', {}))}"
    return escape(str(schema.get("type", "any value")))
