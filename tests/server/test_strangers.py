"""An index that somebody else made: the files of this machine that it names are neither shown nor removed."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pullpush import search
from pullpush.errors import UserError
from pullpush.files.tables import from_arrow, to_arrow
from pullpush.search import layout
from tests.support.fake import FakeModel, picture
from tests.support.running import running


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "home" / "secret.png"
    path.parent.mkdir()
    picture("white", 5, side=600).save(path)
    return path


def forged(index: Path, **columns: str) -> Path:
    """The index with other values in the row of item 3, its checksums made to fit."""
    folder, _ = layout.current(index)
    table = from_arrow(pq.read_table(folder / "items.parquet"))
    for name, value in columns.items():
        table[name] = [value if item == 3 else old for item, old in zip(table["id"], table[name], strict=True)]
    pq.write_table(to_arrow(table), folder / "items.parquet")
    record = json.loads((folder / layout.RECORD).read_text())
    size = (folder / "items.parquet").stat().st_size
    record["files"]["items.parquet"] = {"bytes": size, "sha256": layout.digest(folder / "items.parquet")}
    raw = json.dumps(record).encode()
    (folder / layout.RECORD).write_bytes(raw)
    (index / layout.POINTER).write_text(f"{folder.name} {hashlib.sha256(raw).hexdigest()}\n")
    return index


def side(url: str, item: int = 3) -> int:
    """Pixels of the longer side of the image that is served."""
    return max(Image.open(io.BytesIO(httpx.get(f"{url}/api/items/{item}/image").content)).size)


def test_files_outside_are_shown_where_the_user_has_named_or_indexed_them(
    index: Path, tmp_path: Path, secret: Path
) -> None:
    forged(index, path=str(secret))
    with running(index, tmp_path / "log") as server:
        assert side(server.url) <= 160
        assert "--images" in server.log.read_text()
    with running(index, tmp_path / "named", images=[str(secret.parent)]) as server:
        assert side(server.url) == 600
    search.add(index, [picture("red", 900)], FakeModel())  # does not make it the user's own
    with running(index, tmp_path / "added") as server:
        assert side(server.url) <= 160
        assert side(server.url, 120) == 24  # it lies in the index
    own = tmp_path / "own"
    search.build_index(FakeModel(), secret.parent, own, projection="none")
    search.add(own, [picture("red", 901)], FakeModel())
    with running(own, tmp_path / "own.log") as server:
        assert side(server.url, 0) == 600
        assert "--images" not in server.log.read_text()


def test_a_link_does_not_lead_out(index: Path, tmp_path: Path, secret: Path) -> None:
    (index / "uploads").mkdir(exist_ok=True)
    (index / "uploads" / "link.png").symlink_to(secret)
    forged(index, path="uploads/link.png")
    with running(index, tmp_path / "log") as server:
        assert side(server.url) <= 160


@pytest.mark.parametrize("path", ["{secret}", "../home/secret.png", "uploads/../../home/secret.png"])
def test_what_is_said_to_be_an_upload_lies_among_the_uploads(index: Path, secret: Path, path: str) -> None:
    forged(index, path=path.format(secret=secret), origin="upload")
    for change in (
        lambda: search.remove(index, [3]),
        lambda: search.open(index, FakeModel()),
        lambda: search.build_index(FakeModel(), secret.parent, index, projection="none", rebuild=True),
    ):
        with pytest.raises(UserError, match="outside"):
            change()
    assert secret.exists()
    assert np.asarray(Image.open(secret)).shape == (600, 600, 3)
