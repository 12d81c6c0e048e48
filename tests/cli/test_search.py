"""What a command line of `pullpush search` asks of the engine."""

from typing import Any

import pytest

from pullpush import search
from pullpush.cli.main import main

ASKED = [
    (["smiling cat"], {"text": "smiling cat"}),
    (["smiling cat", "-k", "3"], {"text": "smiling cat", "k": 3}),
    (["--text", "smiling cat", "--k", "3"], {"text": "smiling cat", "k": 3}),
    (["--image", "a.png"], {"image": ["a.png"]}),
    (["cat", "--image", "a.png", "--image", "b.png"], {"text": "cat", "image": ["a.png", "b.png"]}),
    (["--like", "12", "--minus", "40", "--minus", "glasses"], {"like": [12], "minus": [40, "glasses"]}),
    (["cat", "--minus", "²", "--minus=--5", "--minus=-5"], {"text": "cat", "minus": ["²", "--5", -5]}),
    (
        ["cat", "--where", "category=food", "--where", "label=x"],
        {"text": "cat", "where": {"category": "food", "label": "x"}},
    ),
    (["cat", "--cut-off", "0.2"], {"text": "cat", "cut_off": 0.2}),
    (["cat", "--rerank", "expand=3,augment=3"], {"text": "cat", "rerank": "expand=3,augment=3"}),
]


class Nothing:
    """An engine that finds nothing."""

    def __init__(self, queries: list[dict[str, Any]]) -> None:
        self.queries = queries

    def __len__(self) -> int:
        return 0

    def query(self, **query: Any) -> list[Any]:
        self.queries.append(query)
        return []


@pytest.mark.parametrize(("words", "asked"), ASKED)
def test_a_command_line_and_its_query(words: list[str], asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    queries: list[dict[str, Any]] = []
    engine = Nothing(queries)
    monkeypatch.setattr(search, "open", lambda index, **options: engine)
    assert main(["search", "index", *words]) == 0
    assert {name: value for name, value in queries[0].items() if value is not None} == {
        "k": 10,
        **asked,
    }
