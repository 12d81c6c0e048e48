"""What `pullpush search` prints."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from pullpush import search
from pullpush.cli.main import main
from tests.support.fake import FakeModel, write_folder
from tests.support.running import running


def test_the_terminal_shows_k_hits_marks_weak_ones_and_says_how_to_see_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    search.build_index(FakeModel(), write_folder(tmp_path / "images", each=2), tmp_path / "index", projection="none")
    genuine = search.open
    monkeypatch.setattr(search, "open", lambda index, **options: genuine(index, FakeModel(), **options))
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


def test_the_recall_of_an_approximate_search_is_told_with_its_queries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    index = tmp_path / "index"
    source = write_folder(tmp_path / "images", each=6)
    report = search.build_index(FakeModel(), source, index, store="faiss:hnsw", projection="none")
    assert set(report.facts["measured"]) == {"held-out items", "texts"}
    genuine = search.open
    monkeypatch.setattr(search, "open", lambda index, **options: genuine(index, FakeModel(), **options))
    assert main(["search", str(index), "red"]) == 0
    out = capsys.readouterr().out
    assert "approximate search: recall@10 1.000 of exact search (held-out items 1.000, texts 1.000)" in out
    assert "recall@10 1.000 of exact search (held-out items" in str(report)
    with running(index, tmp_path / "log") as server:
        for path in ("/health", "/api/index"):
            said = httpx.get(server.url + path).json()
            assert said["recall@10"] == 1.0
            assert said["measured"]["texts"] == {"queries": 6, "recall@10": 1.0}
    search.remove(index, [0])
    assert search.open(index).manifest.facts["measured"] == report.facts["measured"]
