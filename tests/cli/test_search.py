"""What a command line of `pullpush search` asks of the engine."""

from types import SimpleNamespace
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
    (
        ["cat", "--where", "category=food", "--where", "label=x"],
        {"text": "cat", "where": {"category": "food", "label": "x"}},
    ),
    (["cat", "--all-hits"], {"text": "cat", "cut_off": None}),
]


@pytest.mark.parametrize(("words", "asked"), ASKED)
def test_a_command_line_and_its_query(words: list[str], asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    queries: list[dict[str, Any]] = []
    engine = SimpleNamespace(query=lambda **query: queries.append(query) or [])
    monkeypatch.setattr(search, "open", lambda index: engine)
    assert main(["search", "index", *words]) == 0
    assert {name: value for name, value in queries[0].items() if value is not None or name == "cut_off"} == {
        "k": 10,
        **asked,
    }
