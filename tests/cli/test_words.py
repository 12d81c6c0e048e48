"""What stands in help and docs is taken by the parser; words in any order; help without torch."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pullpush import words as words_module
from pullpush.cli import main, studies, terminal
from pullpush.cli.main import VERBS
from pullpush.errors import UserError
from pullpush.runs import options
from pullpush.signatures import of
from pullpush.words import typed

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("src/pullpush/recipes/*.yaml")]
KINDS = ("margin", "losses", "grid", "memory", "drift")


def test_a_title_that_is_wider_than_its_table_stays_in_one_line() -> None:
    title = "timm:tf_efficientnet_lite0 on stamps: 791 items"
    console = Console(width=80, file=StringIO())
    console.print(terminal.table(title, [{"metric": "recall@1", "value": "0.71"}]))
    assert console.file.getvalue().splitlines()[0] == title  # type: ignore[attr-defined]


def helped(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with suppress(SystemExit):
        main([*words, "--help"])
    return capsys.readouterr().out


def commands(text: str) -> Iterator[list[str]]:
    """Lines that begin with pullpush, as words, without what is said about them."""
    for line in text.replace("\\\n", " ").replace("&& ", "\n").splitlines():
        found = re.match(r"^[\s#$>]*(?:PULLPUSH_\w+=\S+ )?pullpush (.*)$", line)
        if found and not re.search(r"VERB|\.\.\.|\||^\w+[,.:]? [a-z]+ [a-z]+ ", found[1]):
            yield shlex.split(re.split(r"\s{2,}|\s#\s", found[1].strip("`"))[0])


def check(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Goes as far as the function that would do it."""
    verb, *rest = words
    if verb.startswith("-"):
        assert main(words) == 0
        return
    if verb == "train":
        said, others = typed(rest)
        if "--help" not in rest:
            resume, _, _ = (said.pop(name, None) for name in ("resume", "live", "quiet"))
            assert not (resume and (said or others))
            options.config_of(options.merged(said, others))
        return
    did: list[dict[str, Any]] = []

    def record(function: Any, values: dict[str, Any]) -> Any:
        did.append(values)
        if verb not in ("study", "tune"):
            return None
        known = of(function).options
        own = {name: about.default for name, about in known.items()} | values
        names = own["losses"].split(",") if "losses" in own else None
        more = {name: said for name, said in values.items() if name not in known}
        return studies._configs(more, names or [studies._loss_in(more)], [{}], 1)

    monkeypatch.setattr(words_module, "_run", record)
    try:
        assert main(words) == 0
    except SystemExit:
        assert "--help" in words or "-h" in words
    else:
        assert did


@pytest.fixture
def no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration that only the reader of the docs has is empty."""
    read = options.read_yaml
    monkeypatch.setattr(options, "read_yaml", lambda path, **more: read(path, **more) if path.exists() else {})


HELPED = [[verb] for verb in VERBS] + [["study", kind] for kind in KINDS]


@pytest.mark.parametrize("words", HELPED, ids=" ".join)
@pytest.mark.usefixtures("no_files")
def test_help_begins_with_what_the_verb_does_and_examples_that_are_taken(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage, about, examples, options, *others = helped(capsys, *words).split("\n\n")
    verb = f"pullpush {' '.join(words)}"
    assert usage.startswith(f"usage: {verb} ")
    assert re.match(r"[A-Z].{20,}\.$", about, re.DOTALL)
    assert examples.startswith("examples:\n")
    assert re.match(r"(most used|arguments|options|kinds):\n", options)
    first = list(commands(examples))
    more = [each for part in others if part.startswith("more examples:\n") for each in commands(part)]
    assert len(first) >= 2
    assert all(f"pullpush {' '.join(each)}".startswith(verb) for each in first)
    assert len({tuple(each) for each in (*first, *more)}) == len(first) + len(more)
    for each in (*first, *more):
        check(each, monkeypatch)


def test_the_first_screen_of_train_shows_the_most_used_options(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    help_ = helped(capsys, "train")
    screen = help_.splitlines()[:24]
    assert all(len(line) <= 80 for line in screen)
    shown = [line.split()[0] for line in help_.splitlines() if line.startswith("  --")]
    assert shown[:4] == ["--data", "--out", "--minutes", "--steps"]
    assert sum(line.startswith("  --") for line in screen) == 4
    assert len(shown) == len(set(shown)) > 100
    known = set(options.options_of("multi_similarity", "none", "emoji"))
    full = {options.SHORT.get(name, name) for name in (each[2:] for each in shown)}
    assert full - known == {"config", "resume", "live", "quiet"}
    assert known <= full


def test_every_option_says_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    for words in HELPED:
        for name, text in re.findall(r"^  (-{1,2}\S+)\s+(.*(?:\n {6,}\S.*)*)", helped(capsys, *words), re.MULTILINE):
            assert len(re.sub(r"\s\([^()]*\)$", "", text)) > 12, (words, name)


@pytest.mark.usefixtures("no_files")
def test_every_command_of_readme_docs_and_recipes_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pullpush.encoders.backbones.joint", lambda name: None)  # the models of the docs are not here
    found = 0
    for page in PAGES:
        for words in commands(page.read_text(encoding="utf-8")):
            try:
                check(words, monkeypatch)
            except (UserError, AssertionError) as error:
                pytest.fail(f"{page.name}: pullpush {' '.join(words)}: {error}")
            found += 1
    assert found > 40


@pytest.mark.parametrize(
    "words",
    [
        ["search", "INDEX", "-k", "3", "a bird"],
        ["search", "INDEX", "a bird", "-k", "3"],
        ["search", "-k", "3", "INDEX", "--json", "a bird"],
        ["search", "--text=a bird", "INDEX", "-k=3"],
        ["search", "--index", "INDEX", "a bird", "--k", "3"],
    ],
)
def test_options_and_words_in_any_order(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    did: list[dict[str, Any]] = []
    monkeypatch.setattr(words_module, "_run", lambda function, values: did.append(values))
    assert main(words) == 0
    assert {**did[0], "json": True} == {"index": "INDEX", "k": 3, "text": "a bird", "json": True}


def test_evaluate_and_serve_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    did: list[dict[str, Any]] = []
    monkeypatch.setattr(words_module, "_run", lambda function, values: did.append(values))
    assert main(["evaluate", "--data", "photos", "RUN", "--per-class", "-x.csv", "--nmi", "no"]) == 0
    assert main(["serve", "--port", "1", "INDEX", "--names", "a.org", "--names", "b.org"]) == 0
    assert main(["search", "INDEX", "--minus", "40", "--minus", "-3", "--like", "1,2"]) == 0
    assert did == [
        {"data": "photos", "model": "RUN", "per_class": "-x.csv", "nmi": False},
        {"port": 1, "index": "INDEX", "names": ["a.org", "b.org"]},
        {"index": "INDEX", "minus": ["40", "-3"], "like": [1, 2]},
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["search"], "needs INDEX"),
        (["search", "INDEX", "one", "two"], "'two' is one word too many"),
        (["search", "INDEX", "-k", "0"], "-k must be a whole number from 1"),
        (["search", "INDEX", "-k"], "-k needs a value"),
        (["serve", "--port", "-1"], "--port must be a whole number from 0 to 65,535, not -1"),
        (["serve", "--timeout", "nan"], "in seconds, not nan"),
        (["report", "RUN", "--window", "0"], "--window must be"),
        (["evaluate", "RUN", "--split", "tset"], "did you mean 'test'"),
        (["index", "RUN", "--images", "a", "--batch_size", "1e18"], "--batch_size must be"),
        (["study", "margin", "--seeds", "-1"], "--seeds must be"),
        (["study", "losses", "--jobs", "0"], "--jobs must be"),
        (["study", "losses", "--target", "nan"], "--target must be"),
        (["study", "drift", "--tolerance", "-1"], "--tolerance must be"),
        (["study", "memory", "--at", "0"], "--at must be"),
        (["tune", "--trials", "0"], "--trials must be"),
        (["study", "margin", "--loss", "circle"], "did you mean --losses"),
        (["study", "margin", "photos"], "'photos' is one word too many"),
        (["study", "grid", "--over", "loss.margin=0.2", "seed"], "--over 'seed' is no OPTION=VALUES"),
        (["study", "grid", "--over", "loss.margin=0.2", "--over", "seed"], "--over 'seed' is no OPTION=VALUES"),
        (["data", "emoji", "--options", "2024-13-45"], "--options must be a mapping of options to values"),
        (["train", "--resume"], "--resume needs the folder of a run"),
        (["train", "--resume", "runs/a", "--steps", "3"], "leave out '--steps'"),
        (["train", "--config"], "--config needs a value: a YAML file or a recipe (cars-proxy-anchor"),
        (["train", "photos"], "'photos' belongs to no option"),
        (["train", "--steps"], "--steps needs a value: a whole number"),
        (["train", "--batch.classes", "-3"], "--batch.classes must be"),
        (["train", "--batch", "3"], "--batch has options of its own: --batch.classes"),
    ],
)
def test_wrong_words_end_with_status_2(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("words", ["--help", "train --help", "losses", "serve --help", "study --help"])
def test_help_needs_no_torch(words: str) -> None:
    code = (
        "import sys; from pullpush.cli import main\n"
        f"try: main({words.split()!r})\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'pandas', 'matplotlib', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("said", "kept"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_threads_that_wait_leave_the_cores_to_others_unless_one_says_otherwise(
    said: dict[str, str], kept: str | None
) -> None:
    code = (
        "import os; from pullpush.cli import main\n"
        "main(['losses'])\n"
        f"assert os.environ.get('GOMP_SPINCOUNT') == {kept!r}"
    )
    own = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, env=own | said)


def test_a_reader_that_goes_is_no_traceback() -> None:
    for words in ("--help", "train --help", "losses"):
        child = subprocess.Popen(
            [sys.executable, "-m", "pullpush", *words.split()], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert child.stdout is not None
        child.stdout.close()
        assert child.communicate()[1] == b""
        assert child.returncode in (0, 141)
