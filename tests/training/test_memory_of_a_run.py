"""The cross-batch memory in a run: its size as a share, and a start with the warmed-up model."""

from typing import Any

import pytest
import torch

from pullpush.training import train


@pytest.mark.parametrize("freeze", [False, True])
def test_filled_at_the_start_step(
    small: dict[str, Any], tmp_path: Any, freeze: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULLPUSH_CACHE", str(tmp_path / "cache"))
    held: dict[int, tuple[int, int]] = {}
    kept: list[torch.Tensor] = []

    def look(run: Any, step: int) -> None:
        memory = run.task.criterion.memory
        held[step] = int(memory.filled), memory.size
        assert run.task.encoder.training or freeze
        if step == 3:
            kept.append(memory.ids.sort().values)

    options = {**small, "encoder": {**small["encoder"], "freeze": freeze}, "steps": 4}
    memory = {"size": 1.0, "fill": True, "start_step": 2, "layout": "table"}
    train(**options, loss="contrastive", memory=memory, out=str(tmp_path / "run"), callbacks=[look], quiet=True)
    size = held[1][1]
    assert size == 16  # all training items: four of eight classes, four images each
    assert [held[step][0] for step in (1, 2, 3, 4)] == [0, 0, size, size]
    assert len(kept[0].unique()) == size
