"""pullpush index, pullpush search, pullpush serve"""

import json
import re
from typing import Annotated, Any, Literal

from rich.console import Console
from rich.table import Table

from pullpush.bounds import Bound
from pullpush.cli.terminal import plain
from pullpush.errors import UserError
from pullpush.progress import showing
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
    quiet: bool = False,
) -> None:
    """Builds a search index of images, or brings one up to date: only new and changed images are embedded.

    Args:
        model: the folder of a run (runs/NAME) or of a model, or another library's model by its name, such as
            timm:resnet50 or hf:NAME (docs/models.md).
        weights: a file of weights to load into another library's model, or one of its parts.
        images: a folder of images, with folders inside it or not.
        data: instead of a folder, a CSV or Parquet file or the name of a data set.
        out: the folder of the index; by default indexes/NAME, by the name of the run or model.
        store: what holds the vectors: {stores}. faiss chooses its kind by the number of images.
        dim: numbers in a vector; by default all that the model has, or as many as the index that is there. Fewer make
            a smaller index (docs/small-embeddings.md).
        projection: how the map on the search page is computed; none leaves it out.
        rebuild: embed every image again, as with another model.
        batch_size: images embedded at a time.
        quiet: print nothing but the result: neither the plan nor how far it is.

    Examples:
        pullpush index runs/demo --images photos/ --out indexes/photos
        pullpush index runs/demo --data emoji
        pullpush index open_clip:FOLDER --images photos/     to search by words, without training
        pullpush index runs/demo --images photos/ --dim 64 --store faiss:int8
        pullpush index runs/demo --images photos/ --store milvus://localhost:19530/photos
    """
    from pullpush.encoders import load
    from pullpush.search import build_index

    source = images or data
    if not source or (images and data):
        raise UserError("give what to index: --images FOLDER or --data NAME")
    with showing(not quiet):
        report = build_index(
            load(model, weights=weights),
            source,
            out,
            store=store,
            dim=dim,
            projection=projection,
            rebuild=rebuild,
            batch_size=batch_size,
            progress=not quiet,
        )
    print(report)


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
    """Finds the images of an index that are closest to a text, to an image, or to images of the index.

    Args:
        index: the folder of an index (pullpush index makes one).
        text: words to search for; the model must be one of images and texts.
        image: an image file to search for.
        like: the id of an image in the index to search for.
        minus: a text or an id to move away from.
        k: how many to show. Those that are hardly closer than what a senseless query finds, or are of the query's
            class with a probability below 10%, are marked as weak.
        where: only items with this value, such as category=food.
        cut_off: leave out hits with less closeness, which is 0 for what a senseless query finds and 1 for a good
            answer; 0.2 leaves out the weak ones.
        min_probability: leave out hits that are of the query's class with a lower probability, from 0 to 1.
        rerank: put the hits into a better order: auto, as training has chosen, or say how, such as
            expand=3,augment=3 or reciprocal=6 (docs/reranking.md).
        store: the address of the server that holds the vectors, if one does ({servers}); or set PULLPUSH_STORE. The
            address in the index is not used.
        json: print JSON instead of a table: a list of {id, score, closeness, probability, weak, path, label, text}.

    Examples:
        pullpush search indexes/demo --image cat.png
        pullpush search indexes/demo "smiling cat" -k 5 --where category=Smileys --json
        pullpush search indexes/demo --like 12 --minus 40 --minus glasses
        pullpush search indexes/demo --image cat.png --rerank auto
    """
    from pullpush.search import open as open_index

    engine = open_index(index, store=store)
    conditions = dict(_pair(each) for each in where or [])
    away: list[Any] = [int(each) if re.fullmatch("-?[0-9]+", each) else each for each in minus or []]
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
    """Serves a search page and an HTTP API for an index, until Ctrl-C.

    Args:
        index: the folder of an index; by default the one in indexes/ that was built last.
        host: the address to listen at; 0.0.0.0 lets other machines in, which needs a token.
        port: the port; 0 takes a free one.
        token: a password of 8 or more letters and digits that browsers and clients must send; needed where other
            machines are let in. Safer in the environment variable PULLPUSH_TOKEN than on the command line, which
            other users of this machine can see.
        names: another host name by which the server is reached, as behind a proxy.
        store: the address of the server that holds the vectors, if one does ({servers}); or set PULLPUSH_STORE. The
            address in the index is not used.
        images: a folder whose images are shown in full, needed only for an index that was built by another user or on
            another machine, which shows thumbnails otherwise.
        read_only: nobody may add or remove images.
        queue: how many requests may be under way at once; the next ones get the status 429.
        timeout: the longest that one request may take.
        runtime: compute embeddings by this program instead of PyTorch, several times as fast.

    Examples:
        pullpush serve                                 the index that was built last, at http://127.0.0.1:8000
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
