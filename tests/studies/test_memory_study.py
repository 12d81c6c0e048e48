"""The study of the cross-batch memory, from the command line to the page."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pullpush.cli.main import main
from pullpush.studies import memory
from pullpush.studies.memory import batch_settings, differences, memory_cost


def test_table_figures_and_page(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured: list[int] = []
    cost = pd.DataFrame({"places": [0, 64, 64], "storage": ["none", "float32", "float16"], "ms": 2.0})
    cost = cost.assign(megabytes=0.1, compiled_ms=1.0, bare_ms=0.5)
    monkeypatch.setattr(memory, "memory_cost", lambda: measured.append(1) or cost)
    study = [
        *("study", "memory", "--losses", "contrastive", "--batches", "4,6", "--ratios", "0.5,1", "--at", "4"),
        *("--samples", "2", "--seeds", "1", "--out", str(tmp_path), *words),
    ]
    study = [word for word in study if not word.startswith("--batch.")]
    assert main(study) == 0
    table = pd.read_csv(tmp_path / "table.csv")
    assert len(table) == 4 + 1 + 2  # two batches with and without; at one of them another size and two storages
    assert set(table["storage"]) == {"float32", "float16", "bfloat16"}
    found = pd.read_csv(tmp_path / "difference.csv")
    assert found[["loss", "batch"]].to_numpy().tolist() == [["contrastive", 4], ["contrastive", 6]]
    for name in ("batch.png", "ratio.png", "cost.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "page.html").read_text()
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?https?:""", page)
    assert "2 to 3 classes x 2 items, AdamW" in page
    assert main(study) == 0  # nothing trains again, and the cost is not measured again
    assert "7 of 7 runs are finished" in capsys.readouterr().err
    assert measured == [1]


@pytest.mark.parametrize("seeds", [3, 5])
def test_differences_are_paired_by_seed(seeds: int) -> None:
    """The seeds differ by 0.3, the memory adds 0.01, 0.02, ...: of five t(0.975, 4) = 2.776445, s = 0.01 sqrt(2.5)."""
    rows = [
        ("contrastive", 16, size, "float32", seed, 0.3 * seed + (0.01 * (seed + 1) if size else 0.0))
        for size in (0, 0.5, 1)
        for seed in range(seeds)
    ]
    table = pd.DataFrame(rows, columns=["loss", "batch", "memory", "storage", "seed", "recall@1"])
    (row,) = differences(table).to_dict("records")
    mean = 0.01 * (seeds + 1) / 2
    start = 0.3 * (seeds - 1) / 2
    np.testing.assert_allclose([row["without"], row["with"], row["difference"]], [start, start + mean, mean])
    half = 2.776445 * 0.01 * 2.5**0.5 / 5**0.5
    ends = [0.01, 0.03] if seeds == 3 else [mean - half, mean + half]  # of fewer than four, their range
    np.testing.assert_allclose([row["low"], row["high"]], ends, rtol=1e-6)


def gains(*rows: tuple[int, float, float, float]) -> pd.DataFrame:
    """Batch, difference, low, high."""
    return pd.DataFrame(
        [("triplet", b, 1 if low == high else 3, 0.5, 0.5 + d, d, low, high) for b, d, low, high in rows],
        columns=["loss", "batch", "seeds", "without", "with", "difference", "low", "high"],
    )


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (gains((8, 0.1, 0.05, 0.2), (16, 0.02, 0.01, 0.03)), "raises recall@1 at batch 8, 16, most at 8 (0.500 to 0.6"),
        (gains((8, 0.1, -0.05, 0.2)), "changes recall@1 at no batch size beyond what seeds explain"),
        (gains((8, -0.1, -0.2, -0.05)), "lowers recall@1 at batch 8, most at 8 (0.500 to 0.400)"),
        (gains((8, -0.1, -0.2, -0.05), (16, 0.1, 0.05, 0.2)), "raises recall@1 at batch 16"),
        (gains((8, 0.1, 0.1, 0.1)), "raises recall@1 at batch 8, most at 8 (0.500 to 0.600), with one seed"),
        (gains((8, 0.0, 0.0, 0.0)), "changes no recall@1, with one seed"),
    ],
)
def test_the_sentence_follows_from_the_differences(found: pd.DataFrame, sentence: str) -> None:
    said = memory._sentence(found)
    assert sentence in said
    assert said.count("lowers") == bool((found["high"] < 0).any())


def test_cost_counts_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.Timer, "blocked_autorange", lambda timer, **options: timer.timeit(2))  # else a minute
    cost = memory_cost((64,), batch=4).set_index("storage")
    # 128 numbers a place, and label, id and step in 8 bytes each; beside them cursor, step, moments, drift
    beside = 16 + 2 * 512 + 32 * (4 + 8) + 4
    assert cost.loc["float32", "megabytes"] * 1e6 == 64 * (512 + 24) + beside
    assert cost.loc["float16", "megabytes"] * 1e6 == 64 * (256 + 24) + beside
    assert (cost[["ms", "compiled_ms", "bare_ms"]] > 0).all(axis=None)


@pytest.mark.parametrize("batches", ["6", "4"])
def test_batches_are_multiples_of_samples(batches: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["study", "memory", "--batches", batches, "--samples", "4", "--out", str(tmp_path / "study")]) == 2
    assert "multiples of --samples 4" in capsys.readouterr().err
    assert not (tmp_path / "study").exists()
    assert batch_settings([8], 4, 0.5)[1] == {"batch.classes": 2, "batch.samples": 4, "memory.size": 0.5}
