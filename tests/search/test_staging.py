"""Images on their way into an index, of several processes at once."""

import tempfile
from pathlib import Path

import pytest

from pullpush.search import staging


def test_a_folder_that_was_just_made_is_not_taken_for_one_of_a_killed_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "adding-killed").mkdir()
    make, made = tempfile.mkdtemp, []

    def and_cleaned(prefix: str, dir: Path) -> str:
        made.append(make(prefix=prefix, dir=dir))
        if len(made) == 1:  # another process cleans before the lock is held
            staging.clean(tmp_path)
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", and_cleaned)
    with staging.staged(tmp_path) as folder:
        assert folder == Path(made[1])
        (folder / "a.png").write_bytes(b"")
    assert not list(tmp_path.glob("adding-*"))
