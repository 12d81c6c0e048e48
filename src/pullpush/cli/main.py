"""The one door: finds the verb, and turns what goes wrong into one message and an exit status."""

import importlib
import io
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext

from pullpush import __version__
from pullpush.errors import UserError
from pullpush.escape import printable
from pullpush.extras import again, need
from pullpush.names import did_you_mean
from pullpush.progress import showing
from pullpush.words import call

__all__ = ["VERBS", "main"]

# Verb: (module of this room, the extra that it needs, what it does). A verb's module is imported only when it is used.
VERBS = {
    "train": ("training", "train", "train on images by class and evaluate on classes never trained on"),
    "evaluate": ("evaluation", "train", "metrics of a run or model on any data"),
    "verify": ("verification", "train", "same or different: error rates and thresholds over all pairs"),
    "embed": ("embedding", "train", "embeddings of images, to a file"),
    "data": ("data", "train", "what is in a data set, problems first"),
    "study": ("studies", "study", "many runs that differ in a few options: margins, losses, any grid"),
    "tune": ("studies", "study", "search options of a run on the validation classes"),
    "compare": ("compare", "study", "two runs or more side by side: metrics, queries won and lost, options"),
    "export": ("export", "train", "the model for other programs: ONNX, OpenVINO, sentence-transformers, timm"),
    "explain": ("explain", "report", "why two images match: heat maps whose sum is their cosine"),
    "losses": ("losses", "", "all losses and miners with their options"),
    "report": ("reports", "report", "draw a run's report again"),
    "diagnose": ("reports", "report", "what is wrong with a run, the evidence and the cure"),
    "index": ("search", "search", "build or update a search index"),
    "search": ("search", "search", "search an index by text, image or item"),
    "enroll": ("identification", "search", "add classes to an index, each from a few images"),
    "identify": ("identification", "search", "who an image shows among the classes of an index, or unknown"),
    "serve": ("search", "search", "serve an index over HTTP, with a page"),
    "board": ("board", "search", "a live page of all runs in a folder"),
    "demo": ("board", "demo", "train on the built-in data with a live page, then search it"),
}

# Verbs whose progress is shown; studies show their runs themselves.
LONG = ("train", "evaluate", "verify", "embed", "data", "compare", "report", "diagnose", "export", "index", "demo")
# Verbs that read their command lines themselves; the others are functions with options.
OWN_WORDS = ("train", "study", "tune")

ABOUT = """\
Deep metric learning: trains models that bring images of one class close together, shows how well they find what
belongs together, also of classes that they have never seen, and searches with them."""
EXAMPLES = """\
examples:
  pullpush demo                                   from nothing to a search page, in minutes
  pullpush train                                  the built-in emoji data, the default recipe
  pullpush train --data photos/ --loss circle --loss.margin 0.4 --out runs/circle
  pullpush data photos/                           look before you train
  pullpush evaluate runs/circle --data other/
  pullpush diagnose runs/circle                   why it does not learn
  pullpush compare runs/circle runs/triplet       which finds more, and what
  pullpush VERB --help                            options and examples of a verb
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb. Returns 0, 2 for what the user can mend, 130 or 143 for a run that was stopped and saved."""
    words = list(sys.argv[1:] if argv is None else argv)
    if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
        # Read once, when torch is loaded. Threads that spin for long while they wait take the cores from the processes
        # that decode, and from whatever else runs here: a step then takes many times as long.
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that is no UTF-8 must not end a verb
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            return _run(words)
        finally:
            sys.stdout.flush()  # here, where a reader that has gone is no traceback
    except UserError as error:
        print(f"pullpush: {printable(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pullpush: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone: `pullpush losses | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # rich has seen the same
            return 0
        raise


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if words[0] == "--version":
        print(f"pullpush {__version__}")
        return 0
    verb, *rest = words
    if verb not in VERBS:
        raise UserError(f"unknown verb {verb!r}: {did_you_mean(verb, VERBS, 'see pullpush --help', cutoff=0.5)}")
    home, extra, _ = VERBS[verb]
    if extra and not {"-h", "--help"} & set(rest):
        if verb == "demo":  # nothing of a user's is imported: any environment will do
            again(extra, words)
        need(extra)
    module = importlib.import_module(f"pullpush.cli.{home}")
    function = vars(module)[verb]
    with showing() if verb in LONG else nullcontext():
        if verb in OWN_WORDS:
            return int(function(rest))
        call(function, rest, f"pullpush {verb}")
    return 0


def _help() -> str:
    verbs = "\n".join(f"  {verb:<10}{what}" for verb, (_, _, what) in VERBS.items())
    return f"usage: pullpush VERB [--OPTION VALUE ...]\n\n{ABOUT}\n\n{EXAMPLES}\nverbs:\n{verbs}"
