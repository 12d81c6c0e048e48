"""The API's documentation as a page of our own: the usual ones load their scripts from another site."""

from __future__ import annotations

from html import escape
from typing import Any

__all__ = ["api_docs_page"]


def api_docs_page(schema: dict[str, Any]) -> str:
    """HTML for an OpenAPI schema: routes by tag, their parameters and answers."""
    sections: dict[str, list[str]] = {}
    for path, methods in schema["paths"].items():
        for method, route in methods.items():
            sections.setdefault(route.get("tags", ["other"])[0], []).append(_route(schema, path, method, route))
    body = "".join(f"<h2>{escape(tag)}</h2>{''.join(routes)}" for tag, routes in sections.items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>API</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="stylesheet" href="/page/style.css"></head><body class="api-docs"><main>'
        f"<h1>{escape(schema['info']['title'])}: the API</h1>"
        '<p>The same as a machine-readable file: <a href="/openapi.json">openapi.json</a>. '
        'Errors are <code>{"error": {"code", "message"}}</code>. <a href="/">Back to the search</a></p>'
        f"{body}</main></body></html>"
    )


def _route(schema: dict[str, Any], path: str, method: str, route: dict[str, Any]) -> str:
    rows = [
        (p["name"], p["in"], p["schema"], p.get("description", ""), p.get("required", False))
        for p in route.get("parameters", [])
    ]
    for kind, content in route.get("requestBody", {}).get("content", {}).items():
        part = _resolved(schema, content["schema"])
        for name, field in part.get("properties", {}).items():
            rows.append(
                (name, kind.split("/")[-1], field, field.get("description", ""), name in part.get("required", []))
            )
    cells = "".join(
        f"<tr><td><code>{escape(name)}</code>{' *' if needed else ''}</td><td>{escape(place)}</td>"
        f"<td>{escape(_kind(field))}</td><td>{escape(text)}</td></tr>"
        for name, place, field, text, needed in rows
    )
    table = f"<table><tbody>{cells}</tbody></table>" if cells else ""
    answers = ", ".join(sorted(route["responses"]))
    return (
        f"<section><h3><b>{escape(method.upper())}</b> <code>{escape(path)}</code></h3>"
        f"<p>{escape(route.get('summary', ''))}. {escape(route.get('description', ''))} Answers: {escape(answers)}.</p>"
        f"{table}</section>"
    )


def _resolved(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    reference = part.get("$ref")
    return schema["components"]["schemas"][reference.rsplit("/", 1)[-1]] if reference else part


def _kind(field: dict[str, Any]) -> str:
    kinds = (part.get("type") for part in (field, *field.get("anyOf", ())))
    kind = next((kind for kind in kinds if kind not in (None, "null")), "value")
    if kind == "array":
        kind = f"list of {_kind(field.get('items', {}))}s"
    bounds = [f"{word} {field[key]}" for key, word in (("minimum", "at least"), ("maximum", "at most")) if key in field]
    default = f"default {field['default']}" if field.get("default") not in (None, "", []) else ""
    return ", ".join(part for part in (kind, *bounds, default) if part)
