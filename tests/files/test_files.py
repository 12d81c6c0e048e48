"""The ground floor: a whole file or none, and one clear message for whatever is wrong with one that is read."""

import errno
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from pullpush import files
from pullpush.errors import UserError
from pullpush.files import arrays, tables, tensors


def test_a_written_file_is_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    files.write_json(path, {"a": "ä\udcff"})
    files.write_json(path, {"a": "é\udcff"})
    assert files.read_json(path, {"a": str}) == {"a": "é\udcff"}
    assert os.listdir(path.parent) == ["a.json"]
    assert path.stat().st_mode & 0o444 == 0o444 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize(("number", "cure"), [(errno.ENOSPC, "make room"), (errno.EROFS, "make the folder writable")])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_refuses_leaves_the_old_file(
    tmp_path: Path, monkeypatch, call: str, number: int, cure: str
) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "old")

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(UserError, match=f"a.txt.*{cure}.*then go on"):
        files.write_text(path, "new", "then go on")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_is_known_through_the_errors_of_libraries(tmp_path: Path, monkeypatch) -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match="disk is full; make room on it"), files.replacing(tmp_path / "a.pt"):
        torch.save({"a": torch.zeros(9)}, Full())
    with pytest.raises(UserError, match="disk is full"), files.replacing(tmp_path / "a.safetensors"):
        raise SafetensorError('Error while serializing: IoError(Os { message: "No space left on device" })')
    assert os.listdir(tmp_path) == []


def test_other_errors_pass_through_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), files.replacing(tmp_path / "a.txt"):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def test_what_a_killed_writer_left_is_removed_and_a_living_one_is_left_alone(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom pullpush import files\nwith files.replacing(sys.argv[1]) as part:\n"
        "    part.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "a[1]*.txt"
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -signal.SIGKILL
    assert len(os.listdir(tmp_path)) == 1
    assert not path.exists()
    with files.replacing(path) as first:
        first.write_text("first")
        files.write_text(path, "second")
        assert first.exists()
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == [path.name]


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"can't write .*file/a.json'.*choose"):
        files.write_json(tmp_path / "file" / "a.json", 1)


def test_a_lock_has_one_holder_and_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    taken = pytest.raises(UserError, match=f"taken by {os.getpid()}")
    with files.locked(path, "busy"), taken, files.locked(path, "taken by {holder}"):
        pass
    code = (
        "import os, signal, sys\nfrom pullpush import files\nwith files.locked(sys.argv[1], ''):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -signal.SIGKILL
    with files.locked(path, "busy"):
        pass


# Readers: each kind with one good file; `_damaged` makes bad ones of it.


def _npy(array: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def _with_shape(shape: str) -> bytes:
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(16)


def _npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def _bomb() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", _npy(np.zeros(70 << 20, np.uint8)))
    return stream.getvalue()


def _torch(value: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def _safetensors(tmp_path: Path) -> bytes:
    save_file({"a": torch.arange(4.0)}, tmp_path / "good.safetensors")
    return (tmp_path / "good.safetensors").read_bytes()


def _parquet() -> bytes:
    return pd.DataFrame({"a": [1, 2], "name": ["NA", None]}).to_parquet()


def _head(text: str) -> bytes:
    return len(text).to_bytes(8, "little") + text.encode()


KINDS = {
    "json": lambda path: files.read_json(path, {"a": {"b": float}}),
    "yaml": lambda path: files.read_yaml(path, {"a": {"b": float}}),
    "npy": lambda path: arrays.read_npy(path, shape=(None, 2), kinds="f"),
    "npz": lambda path: arrays.read_npz(path, {"a": "f"}),
    "safetensors": tensors.read_safetensors,
    "pt": lambda path: tensors.read_checkpoint(path, {"a": torch.Tensor}),
    "csv": lambda path: tables.read_csv(path, ["a", "name"]),
    "parquet": lambda path: tables.read_parquet(path, ["a", "name"]),
}
DEEP = 100_000
BAD = {
    "json": [
        b"[" * DEEP,
        b'{"a": {"b": true}}',
        b'{"a": [1]}',
        b'{"a": {}}',
        b"[]",
        b'{"a": {"b": ' + b"9" * 5000 + b"}}",
    ],
    "yaml": [
        b"[" * 2000,
        b"a: {b: text}",
        b"- 1",
        b"a: !!python/object/apply:os.system [ls]",
        b"? [1]\n: 2",
        b"1: 2",
        b"a: 2024-99-99",
        b"a: &a {b: 1}\n"
        + b"".join(b"x%d: &x%d [%s]\n" % (i, i, b", ".join([b"*x%d" % (i - 1) if i else b"*a"] * 9)) for i in range(9)),
        b"a: &a [*a]",
    ],
    "npy": [
        _npy(np.array([{}], object), allow_pickle=True),
        _npy(np.zeros(4, np.float32)),
        _npy(np.zeros((2, 2), np.int64)),
        _npy(np.zeros((2, 3), np.float32)),
        _with_shape("(1000000000000, 2)"),
        _with_shape("('1', 2)"),
        _with_shape("(-2, -2)"),
        _with_shape("(1000000, 1000000, 1000000, 1000000)"),
        _with_shape("(" * 200 + ")" * 200),
        pickle.dumps([1]),
        b"\x93NUMPY\x02\x00" + b"\xff" * 8,
        _with_shape("(True, 4)"),
        _with_shape("(2, 1)"),
    ],
    "npz": [
        _npz(b=np.zeros(2)),
        _npz(a=np.array(["x"])),
        _npz(a=np.array([{}], object)),
        _bomb(),
        _npz(a=np.zeros(2)).replace(b"(2,)", b"(9,)"),
    ],
    "safetensors": [
        (1 << 40).to_bytes(8, "little") + bytes(16),
        _head("[" * DEEP),
        _head("{}x"),
        _head('{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,16]}}') + bytes(16),
        _head('{"a":{"dtype":"F32","shape":["4"],"data_offsets":[0,16]}}') + bytes(16),
    ],
    "pt": [
        _torch([1]),
        _torch({"b": 1}),
        _torch({"a": 1}),
        _torch({"a": Path("x")}),
        pickle.dumps({"a": 1}),
        _npz(a=np.zeros(2)),
    ],
    "csv": [b"a,b\n1,2\n", b'a,name\n"1,2\n', b"a,name\n1,2,3\n1,2,3,4\n"],
    "parquet": [pd.DataFrame({"a": [1]}).to_parquet(), b"PAR1" + bytes(8) + b"\xff\xff\xff\x7fPAR1"],
}


def _good(kind: str, tmp_path: Path) -> bytes:
    return {
        "json": b'{"a": {"b": 1}}',
        "yaml": b"a: {b: 1.5}",
        "npy": _npy(np.ones((2, 2), np.float32)),
        "npz": _npz(a=np.ones(2)),
        "safetensors": _safetensors(tmp_path),
        "pt": _torch({"a": torch.ones(2)}),
        "csv": b"a,name\n1,NA\n2,\n",
        "parquet": _parquet(),
    }[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_file_is_read_and_a_bad_one_is_named(tmp_path: Path, kind: str) -> None:
    good = _good(kind, tmp_path)
    path = tmp_path / f"file.{kind}"
    path.write_bytes(good)
    KINDS[kind](path)
    garbage = np.random.default_rng(0).integers(0, 256, 500, np.uint8).tobytes()
    cut = [good[:1], good[: len(good) // 2], good[:-1]] if kind != "csv" else []
    for bad in [b"", garbage, bytes(len(good)), bytes(500), b"\xff\xfe", *cut, *BAD[kind]]:
        if kind == "yaml" and bad == good[:-1]:
            bad = b"a: {"
        path.write_bytes(bad)
        with pytest.raises(UserError, match=f"file.{kind}") as error:
            KINDS[kind](path)
        assert "restore it" in str(error.value), bad[:80]
        assert len(str(error.value)) < 600
    path.unlink()
    for make in (lambda: None, path.mkdir, lambda: (path.rmdir(), os.mkfifo(path))):
        make()
        with pytest.raises(UserError, match=f"can't read .*file.{kind}"):
            KINDS[kind](path)


def test_lines_that_are_damaged_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": "x"}\n\n\xff\xfe\n[1]\n' + b"[" * DEEP + b'\n{"step": 2}\n{"st')
    records, left_out = files.read_jsonl(path, {"step": int})
    assert [record["step"] for record in records] == [1, 2]
    assert left_out == [2, 4, 5, 6, 8]


def test_names_of_any_bytes_are_added_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    files.write_text(path, "\udce9\n")
    files.append_text(path, "\udce9\n")
    assert path.read_bytes() == b"\xe9\n" * 2


def test_words_that_pandas_takes_for_missing_are_names(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("label,x\nNA,1\nNone,\nnull,2\nnan,3\n,4\n")
    frame = tables.read_csv(path, ["label"])
    assert frame["label"].tolist()[:4] == ["NA", "None", "null", "nan"]
    assert frame["label"].isna().tolist() == [False] * 4 + [True]
    assert frame["x"].isna().sum() == 1


def test_a_mapped_array_is_equal(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    for array in (np.arange(6.0).reshape(2, 3), np.zeros((0, 3))):
        np.save(path, array)
        np.testing.assert_array_equal(arrays.read_npy(path, shape=(None, 3), mapped=True), array)


def test_json_lines_of_a_good_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"step": n}) + "\n" for n in range(3)))
    assert files.read_jsonl(path) == ([{"step": n} for n in range(3)], [])


def test_headers_of_arrays_are_read_by_one_thread_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are Python literals: two at once are too many for Python 3.11's parser."""
    path = tmp_path / "a.npy"
    np.save(path, np.arange(6))
    genuine, inside, most = np.lib.format.read_array_header_1_0, [0], [0]

    def watched(file: IO[bytes]) -> object:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.01)
        inside[0] -= 1
        return genuine(file)

    monkeypatch.setattr(np.lib.format, "read_array_header_1_0", watched)
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda _: arrays.read_npy(path), range(8)))
    assert most == [1]
    assert all(each.tolist() == list(range(6)) for each in read)
