"""What `pullpush search` prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pullpush import search
from pullpush.cli.main import main

from .fake import FakeModel, write_folder


def test_the_terminal_shows_k_hits_marks_weak_ones_and_says_how_to_see_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    search.build_index(FakeModel(), write_folder(tmp_path / "images", each=2), tmp_path / "index", projection="none")
    genuine = search.open
    monkeypatch.setattr(search, "open", lambda index: genuine(index, FakeModel()))
    monkeypatch.setenv("COLUMNS", "300")
    for words, weak, says in (
        (["zebra", "-k", "5"], 5, "the nearest 5 of 12 items; for more, -k 10"),
        (["zebra", "-k", "12"], 12, "hardly closer than what nonsense finds"),
        (["red", "-k", "2"], 0, "for more, -k 4"),
    ):
        assert main(["search", str(tmp_path / "index"), *words]) == 0
        out = capsys.readouterr().out
        assert out.count(".png") == int(words[-1])
        assert sum("weak" in line and ".png" in line for line in out.splitlines()) == weak
        assert says in out
    assert main(["search", str(tmp_path / "index"), "zebra", "--json"]) == 0
    hits = json.loads(capsys.readouterr().out)
    assert len(hits) == 10
    assert all(hit["weak"] for hit in hits)
