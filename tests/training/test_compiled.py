"""A compiled encoder trains as the plain one does."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pullpush.criterion import compiling
from pullpush.errors import UserError
from pullpush.runs.log import read_log
from pullpush.training import train

Options = dict[str, Any]


def test_a_compiled_encoder_trains_as_the_plain_one(
    small: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced, with its backward pass, but not turned into machine code, which takes minutes."""
    short = {**small, "data": {**small["data"], "workers": 0}, "steps": 3, "validate_every": 3, "nmi": False}
    compiled, calls = torch.compile, list[dict[str, Any]]()

    def compile(function: Any, **options: Any) -> Any:
        calls.append(options)
        return compiled(function, backend="aot_eager")

    monkeypatch.setattr(compiling.torch, "compile", compile)
    logs = []
    for wanted in (False, True):
        run = train(**short, compile_encoder=wanted, out=str(tmp_path / str(wanted)), quiet=True)
        logs.append([line for line in read_log(run / "log.jsonl") if "train/loss" in line])
    assert len(calls) == 1
    assert "fullgraph" not in calls[0]
    assert len(logs[0]) == 3
    for plain, ours in zip(*logs, strict=True):
        for name in ("train/loss", "gradient_norm"):
            assert ours[name] == pytest.approx(plain[name], rel=1e-3), name
    saved = [torch.load(tmp_path / name / "checkpoints" / "last.pt")["module"] for name in ("False", "True")]
    assert saved[0].keys() == saved[1].keys()
    with pytest.raises(UserError, match="the gradient cache takes no compiled encoder"):
        train(**short, compile_encoder=True, gradient_cache=4, out=str(tmp_path / "cache"))


def test_without_a_compiler_it_runs_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    asked = []

    def none(graph: Any, inputs: Any) -> Any:
        asked.append(graph)
        raise RuntimeError("no compiler here")

    def double(x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    encode = compiling.Compiled(double, "encoder 'image'", whole=False)
    encode.compiled = torch.compile(double, backend=none)
    x = torch.ones(2, 3)
    assert torch.equal(encode(x), 2 * x)
    assert asked
    assert encode.compiled is None
    assert not compiling.log.disabled
    assert "no compilation of the encoder 'image', it runs as it is: RuntimeError: no compiler here" in caplog.text
