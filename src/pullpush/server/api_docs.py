"""The API's documentation as a page of our own: the usual ones load their scripts from another site."""

from collections.abc import Iterator
from typing import Any

from jinja2 import Environment, PackageLoader

__all__ = ["api_docs_page"]


def api_docs_page(schema: dict[str, Any]) -> str:
    """HTML for an OpenAPI schema: routes by tag, their parameters and answers."""
    sections: dict[str, list[dict[str, Any]]] = {}
    for path, methods in schema["paths"].items():
        for method, route in methods.items():
            about = {**route, "method": method.upper(), "path": path, "fields": list(_fields(schema, route))}
            sections.setdefault(route.get("tags", ["other"])[0], []).append(about)
    environment = Environment(loader=PackageLoader("pullpush.server", "page"), autoescape=True)
    return environment.get_template("api_docs.html").render(title=schema["info"]["title"], sections=sections)


def _fields(schema: dict[str, Any], route: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Name, place, kind, description and whether it is needed of each parameter and field of the body."""
    for each in route.get("parameters", []):
        needed = each.get("required", False)
        yield {**each, "place": each["in"], "kind": _kind(each["schema"]), "needed": needed}
    for media, content in route.get("requestBody", {}).get("content", {}).items():
        body = content["schema"]
        if "$ref" in body:
            body = schema["components"]["schemas"][body["$ref"].rsplit("/", 1)[-1]]
        for name, field in body.get("properties", {}).items():
            needed = name in body.get("required", [])
            place = media.split("/")[-1]
            text = field.get("description", "")
            yield {"name": name, "place": place, "kind": _kind(field), "description": text, "needed": needed}


def _kind(field: dict[str, Any]) -> str:
    kinds = (part.get("type") for part in (field, *field.get("anyOf", ())))
    kind = next((kind for kind in kinds if kind not in (None, "null")), "value")
    if kind == "array":
        kind = f"list of {_kind(field.get('items', {}))}s"
    bounds = [
        f"{word} {field[key]:g}" for key, word in (("minimum", "at least"), ("maximum", "at most")) if key in field
    ]
    default = f"default {field['default']}" if field.get("default") not in (None, "", []) else ""
    return ", ".join(part for part in (kind, *bounds, default) if part)
