"""pullpush explain"""

from functools import partial
from json import dumps
from pathlib import Path

from pullpush.errors import UserError

__all__ = ["explain"]


def explain(
    model: str,
    a: str,
    b: str,
    *,
    weights: list[str] | None = None,
    out: str = "why.png",
    pixels: bool = False,
    json: bool = False,
) -> None:
    """Draws why two images match: a heat map over each shows how much every place adds to their similarity.

    Each map sums to the cosine of the two.

    Args:
        model: the folder of a run (runs/NAME) or of a model, or another library's model by its name, such as
            timm:resnet50 or hf:NAME (docs/models.md).
        a: an image file.
        b: the other image file.
        weights: a file of weights to load into another library's model, or one of its parts.
        out: the figure to write, a PNG.
        pixels: draw a finer map, by single pixels, which is always an approximation.
        json: print score, maps and method as JSON instead of drawing.

    Examples:
        pullpush explain runs/demo one.png other.png --out why.png
        pullpush explain runs/demo one.png other.png --json
    """
    from pullpush.encoders import load
    from pullpush.images import any_rgb
    from pullpush.reports import matches, style

    if Path(out).suffix.lower() != ".png":
        raise UserError(f"can't write {out!r}: the figure is a PNG, give --out why.png")
    pair = matches.pair_of(load(model, weights=weights), any_rgb(a, a), any_rgb(b, b), pixels)
    match = pair.match
    if json:
        maps = {"map_a": match.map_a.tolist(), "map_b": match.map_b.tolist()}
        print(dumps({"score": match.score, "exact": match.exact, "method": match.method, **maps}))
        return
    names = (Path(a).stem, Path(b).stem)
    drawn = style.save(partial(matches.draw_pair, pair, names), Path(out))
    print(f"cosine {match.score:.4f}. {matches.said(match.exact)}")
    print(f"figure: {drawn.path}")
