"""Templates to pages."""

import base64
import io
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from PIL import Image

from pullpush.escape import readable

__all__ = ["image_uri", "render"]


def render(package: str, template: str, *, filters: dict[str, Any] | None = None, **values: Any) -> str:
    """The page of a template in the folder `templates` of a package; it has the filter `data_uri` and those given.

    Templates extend `page.html`, which stands beside those of the reports.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("pullpush.reports")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"data_uri": image_uri, **(filters or {})}
    return readable(environment.get_template(template).render(**values))


def image_uri(png: bytes) -> str:
    """A picture as a data URI: as WebP where that is a third of the PNG or less (photographs), else untouched."""
    stream = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(stream, "WEBP", quality=88)
    webp = stream.getvalue()
    kind, data = ("webp", webp) if 3 * len(webp) <= len(png) else ("png", png)
    return f"data:image/{kind};base64," + base64.b64encode(data).decode()
