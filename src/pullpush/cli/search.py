"""pullpush index, pullpush search, pullpush serve"""

import json
from typing import Annotated, Any, Literal

from rich.console import Console
from rich.table import Table

from pullpush.bounds import Bound
from pullpush.cli.terminal import plain
from pullpush.errors import UserError
from pullpush.search.stores import declared, names
from pullpush.search.stores.base import recall_in_words

__all__ = ["index", "search", "serve"]


def index(
    model: str,
    *,
    weights: list[str] | None = None,
    images: str | None = None,
    data: str | None = None,
    out: str | None = None,
    store: str | None = None,
    dim: int | None = None,
    projection: Literal["umap", "pca", "none"] = "umap",
    rebuild: bool = False,
    batch_size: Annotated[int, Bound(1, 4096)] = 64,
) -> None:
    """Builds an index of images, or updates it: only new, changed and removed files are looked at.

    Args:
        model: a run folder, a model folder, or the name of a library's model (docs/models.md).
        weights: of an image model of a library: the file of its weights, or the files of its parts; may be repeated.
        images: a folder of images.
        data: a data set's name or a manifest, instead of a folder.
        out: the index folder; by default indexes/NAME of the run or model.
        store: {stores}; faiss alone chooses by size.
        dim: dimensions of the embeddings; by default all, or those of an existing index. Fewer are the first ones of a
            model that was trained for them, else principal components (docs/small-embeddings.md).
        projection: of the map on the page: umap, pca or none.
        rebuild: embed everything anew.
        batch_size: images embedded at a time.

    Examples:
        pullpush index runs/demo --data emoji
        pullpush index runs/demo --images photos/ --out indexes/photos
        pullpush index runs/demo --images photos/ --dim 64 --store faiss:int8
        pullpush index runs/demo --images photos/ --store milvus://localhost:19530/photos
        pullpush index --model open_clip:FOLDER --images photos/    search by words without training
    """
    from pullpush.encoders import load
    from pullpush.search import build_index

    source = images or data
    if not source or (images and data):
        raise UserError("give what to index: --images FOLDER or --data NAME")
    print(
        build_index(
            load(model, weights=weights),
            source,
            out,
            store=store,
            dim=dim,
            projection=projection,
            rebuild=rebuild,
            batch_size=batch_size,
            progress=True,
        )
    )


def search(
    index: str,
    text: str | None = None,
    *,
    image: list[str] | None = None,
    like: list[int] | None = None,
    minus: list[str] | None = None,
    k: Annotated[int, Bound(1, 10_000)] = 10,
    where: list[str] | None = None,
    cut_off: float | None = None,
    min_probability: float | None = None,
    rerank: str | None = None,
    store: str | None = None,
    json: bool = False,
) -> None:
    """The closest items of an index.

    Args:
        index: an index folder.
        text: words to search for; needs a model with texts.
        image: image files.
        like: ids of items in the index.
        minus: texts or ids to move away from.
        k: this many; those that are of the query's class with a chance below 10%, or where that cannot be told, that
            are hardly closer than what nonsense finds, are marked as weak.
        where: only items with these values, such as category=food.
        cut_off: leave out hits with less closeness; 0.2 leaves out what is hardly closer than nonsense.
        min_probability: leave out hits that are of the query's class with a lower probability, 0 to 1.
        rerank: put the hits into a better order: auto, as the model's validation classes have chosen, or what to do,
            such as expand=3,augment=3 or reciprocal=6.
        store: where the vectors lie on a server, its address ({servers}); or the environment variable PULLPUSH_STORE.
            The address in the index is not used.
        json: print a list of {id, score, closeness, probability, weak, path, label, text}.

    Examples:
        pullpush search indexes/demo --image cat.png -k 5
        pullpush search indexes/demo "smiling cat" --where category=Smileys --json
        pullpush search indexes/demo --like 12 --minus 40 --minus glasses
        pullpush search indexes/demo --image cat.png --rerank auto
    """
    from pullpush.search import open as open_index

    engine = open_index(index, store=store)
    conditions = dict(_pair(each) for each in where or [])
    away: list[Any] = [int(each) if each.lstrip("-").isdigit() else each for each in minus or []]
    hits = engine.query(
        text=text,
        image=image,
        like=like,
        minus=away or None,
        k=k,
        where=conditions or None,
        cut_off=cut_off,
        min_probability=min_probability,
        rerank=rerank,
    )
    _show(hits, json)
    if rerank == "auto" and not json:
        print(f"re-ranked: {engine.rerank_of(engine.version)}")
    if not json and len(hits) == k < len(engine):
        print(f"the nearest {k} of {len(engine):,} items; for more, -k {min(2 * k, len(engine))}")
    recall = recall_in_words(engine.manifest.facts) if hits and not json else ""
    if recall:
        print(f"approximate search: {recall}")


def _pair(condition: str) -> tuple[str, str]:
    name, equals, value = condition.partition("=")
    if not equals:
        raise UserError(f"--where {condition!r} must be NAME=VALUE, such as category=food")
    return name, value


def _show(hits: list[Any], as_json: bool) -> None:
    if as_json:
        listed = [hit.as_dict() for hit in hits]
        print(json.dumps(listed))
        return
    if not hits:
        print("no hits: no item is left, or all are below the cut-off or the least probability")
        return
    likely = hits[0].probability is not None
    why = "a chance below 10% to be of the query's class" if likely else "hardly closer than what nonsense finds"
    shown = Table(caption=f"weak: {why}" if any(hit.weak for hit in hits) else None)
    for name in ("id", "score", *(["probability"] if likely else []), "", "label", "path"):
        shown.add_column(name, justify="right" if name in ("id", "score", "probability") else "left")
    for before, hit in zip([None, *hits], hits, strict=False):
        if hit.weak and before is not None and not before.weak:
            shown.add_section()
        chance = [f"{hit.probability:.1%}"] if hit.probability is not None else []
        weak = "weak" if hit.weak else ""
        shown.add_row(str(hit.id), f"{hit.score:.3f}", *chance, weak, plain(hit.label), plain(hit.path))
    Console().print(shown)


def serve(
    index: str | None = None,
    *,
    host: str = "127.0.0.1",
    port: Annotated[int, Bound(0, 65_535)] = 8000,
    token: str | None = None,
    names: list[str] | None = None,
    store: str | None = None,
    images: list[str] | None = None,
    read_only: bool = False,
    queue: Annotated[int, Bound(1, 100_000)] = 64,
    timeout: Annotated[float, Bound(0.1, 86_400, unit="seconds")] = 30.0,
    runtime: Literal["onnx", "openvino"] | None = None,
) -> None:
    """An HTTP API and a page for an index.

    Args:
        index: an index folder; by default the one in indexes/ that was built last.
        host: the address to listen at; 0.0.0.0 lets other machines in.
        port: the port.
        token: what clients must send, 8 or more letters and digits; needed where others are let in. Better given in the
            environment variable PULLPUSH_TOKEN, as the list of processes shows the command line to all.
        names: further host names that requests may use, as a proxy's; may be repeated.
        store: where the vectors lie on a server, its address ({servers}); or the environment variable PULLPUSH_STORE.
            The address in the index is not used.
        images: a folder whose images are shown in full; may be repeated. Needed for an index that was built by another
            user or on another machine, of which only thumbnails are shown otherwise.
        read_only: no adding and removing.
        queue: requests that may be under way at once; the next ones get 429.
        timeout: seconds for one request.
        runtime: what computes embeddings in the place of PyTorch, several times as fast: onnx or openvino.

    Examples:
        pullpush serve                                  the index that was built last
        pullpush serve indexes/photos --port 8080
        PULLPUSH_TOKEN=LETTERSANDDIGITS pullpush serve indexes/photos --host 0.0.0.0
    """
    from pullpush.server import serve as run

    run(
        index,
        host,
        port,
        token,
        names=names or (),
        store=store,
        images=images or (),
        read_only=read_only,
        queue=queue,
        timeout=timeout,
        runtime=runtime,
        ready=lambda at: print(f"serving at {at}", flush=True),
    )


# The addresses of all stores, and of those that are servers.
KINDS = [declared(name) for name in names()]
for verb in (index, search, serve):
    for word, kinds in (("{stores}", KINDS), ("{servers}", [kind for kind in KINDS if kind.remote])):
        addresses = " or ".join(address for kind in kinds for address in kind.addresses)
        verb.__doc__ = (verb.__doc__ or "").replace(word, addresses)
