"""What a run does about a collapse that lasts, and leaves alone."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from pullpush.reports import diagnose_run
from pullpush.runs.checkpoint import load_checkpoint
from pullpush.runs.log import read_log
from pullpush.training import train

Options = dict[str, Any]


@pytest.fixture(scope="module")
def collapsing(small: Options) -> Options:
    """Steps so large that all embeddings become one, of which a tenth would do no harm."""
    return {
        **small,
        "encoder": {"size": 32, "dim": 16, "frozen_stages": 0},
        "optimizer": {"lr": 1.5e-2},
        "batch": {"classes": 4, "samples": 3},
        "steps": 24,
        "validate_every": 4,
        "nmi": False,
    }


def made(options: Options, folder: Path) -> tuple[Path, str]:
    """A run, and what it said."""
    said = io.StringIO()
    with redirect_stdout(said):
        run = train(**options, out=str(folder / "run"))
    return run, said.getvalue()


@pytest.fixture(scope="module")
def stopped(collapsing: Options, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return made(collapsing, tmp_path_factory.mktemp("stopped"))


@pytest.fixture(scope="module")
def restarting(collapsing: Options) -> Options:
    return {**collapsing, "on_collapse": "restart", "seed": 1}


@pytest.fixture(scope="module")
def restarted(restarting: Options, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return made(restarting, tmp_path_factory.mktemp("restarted"))


def metrics_of(run: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    return metrics


def test_a_collapse_that_lasts_ends_the_run_and_the_start_is_kept(stopped: tuple[Path, str]) -> None:
    run, said = stopped
    metrics = metrics_of(run)
    step = metrics["collapse"]["step"]
    assert (metrics["collapse"]["then"], metrics["steps"]) == ("stopped", step)
    assert step < 24
    looks = [
        line["monitor/embeddings/mean_cosine"] for line in read_log(run / "log.jsonl") if "monitor/nearest" in line
    ]
    assert all(look > 0.99 for look in looks[-3:])
    assert f"step {step}: the embeddings have collapsed, and the run ends here. Start anew with --opt" in said
    assert metrics["kept"] == "start"
    assert metrics["test"]["after"] == metrics["test"]["before"]
    assert load_checkpoint(run / "checkpoints" / "last.pt")["saved"]["step"] == step
    assert "collapse" in [finding.finding for finding in diagnose_run(run).findings]


def test_a_run_killed_after_it_stopped_ends_as_it_would_have(
    collapsing: Options, stopped: tuple[Path, str], tmp_path: Path
) -> None:
    whole, _ = stopped

    class Killed:
        def on_finish(self, run: Any) -> None:
            raise KeyboardInterrupt

    def interrupted() -> None:
        try:
            train(**collapsing, out=str(tmp_path / "cut"), callbacks=[Killed()], quiet=True)
        except KeyboardInterrupt:
            return
        raise AssertionError

    interrupted()
    assert not (tmp_path / "cut" / "metrics.json").exists()
    train(resume=tmp_path / "cut", quiet=True)
    ends = [metrics_of(run) | {"seconds": 0} for run in (whole, tmp_path / "cut")]
    assert ends[0] == ends[1]
    assert read_log(whole / "log.jsonl") == read_log(tmp_path / "cut" / "log.jsonl")


def test_a_run_that_only_warns_goes_on(collapsing: Options, tmp_path: Path) -> None:
    run = train(**collapsing, on_collapse="warn", out=str(tmp_path / "run"), quiet=True)
    assert (metrics_of(run)["steps"], metrics_of(run)["collapse"]) == (24, None)


def test_without_validation_classes_a_collapsed_run_keeps_the_start(collapsing: Options, tmp_path: Path) -> None:
    data = {**collapsing["data"], "validation": 0.0}
    run = train(**{**collapsing, "data": data, "steps": 60, "loss": "triplet"}, out=str(tmp_path / "run"), quiet=True)
    metrics = metrics_of(run)
    assert metrics["collapse"]["then"] == "stopped"
    assert (metrics["kept"], metrics["gain"]) == ("start", None)
    assert metrics["test"]["after"] == metrics["test"]["before"]


def test_a_restart_begins_again_with_the_cure_and_ends_healthy(restarted: tuple[Path, str]) -> None:
    run, said = restarted
    metrics = metrics_of(run)
    found = metrics["collapse"]
    assert found["then"] == "restarted"
    assert found["options"] == {"optimizer.lr": 5e-4}
    assert (
        f"going back to {'step ' + str(found['since']) if found['since'] else 'the start'}, with --optimizer.lr" in said
    )
    assert yaml.safe_load((run / "config.yaml").read_text())["optimizer"]["lr"] == 1.5e-2
    assert yaml.safe_load((run / "config-restarted.yaml").read_text())["optimizer"]["lr"] == 5e-4
    lines = [line for line in read_log(run / "log.jsonl") if "train/loss" in line]
    assert [line["step"] for line in lines] == list(range(1, 25))
    assert max(line["lr"] for line in lines[found["since"] :]) == pytest.approx(5e-4, rel=0.01)
    assert metrics["steps"] == 24
    cosines = [
        line["monitor/embeddings/mean_cosine"] for line in read_log(run / "log.jsonl") if "monitor/nearest" in line
    ]
    assert cosines[-1] < 0.9
    (line,) = [json.loads(line) for line in (run / "findings.jsonl").read_text().splitlines() if "collapse" in line]
    assert (line["step"], line["evidence"]) == (found["since"], {"step": float(found["step"])})
    assert "--optimizer.lr 5e-04" in line["advice"]
    assert metrics["kept"] in ("trained", "average", "blend")


def test_a_restarted_run_is_resumed_to_the_same_end(
    restarting: Options, restarted: tuple[Path, str], tmp_path: Path
) -> None:
    whole, _ = restarted

    class Enough(Exception):
        pass

    def stop(run: Any, step: int) -> None:
        if run.collapse and step == 20:
            raise Enough

    with pytest.raises(Enough):
        train(**restarting, out=str(tmp_path / "cut"), callbacks=[stop], quiet=True)
    train(resume=tmp_path / "cut", quiet=True)
    states = [load_checkpoint(run / "checkpoints" / "last.pt") for run in (whole, tmp_path / "cut")]
    for part in ("module", "average"):
        mine, theirs = (state[part] for state in states)
        pairs = zip(mine.values(), theirs.values(), strict=True) if part == "module" else zip(mine, theirs, strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)
    assert read_log(whole / "log.jsonl") == read_log(tmp_path / "cut" / "log.jsonl")
    found = [(run / "findings.jsonl").read_text() for run in (whole, tmp_path / "cut")]
    assert found[0] == found[1]
    ends = [metrics_of(run) | {"seconds": 0} for run in (whole, tmp_path / "cut")]
    assert ends[0] == ends[1]


def test_a_collapse_of_few_looks_or_of_a_model_that_finds_is_left_alone(small: Options, tmp_path: Path) -> None:
    """Embeddings in a cone of a hundredth of a degree find what they found before."""

    class Narrow:
        def on_setup(self, run: Any) -> None:
            direction = torch.nn.functional.normalize(torch.ones(16), dim=0)

            def pull(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
                return torch.nn.functional.normalize(0.02 * output + direction, dim=-1)

            run.task.encoder.register_forward_hook(pull)

    options = {**small, "optimizer": {"lr": 1e-6}, "encoder": {"size": 32, "dim": 16}}
    run = train(**options, callbacks=[Narrow()], out=str(tmp_path / "run"), quiet=True)
    looks = [
        line["monitor/embeddings/mean_cosine"] for line in read_log(run / "log.jsonl") if "monitor/nearest" in line
    ]
    assert min(looks) > 0.99
    assert np.isfinite(looks).all()
    assert len(looks) > 3
    assert (metrics_of(run)["steps"], metrics_of(run)["collapse"]) == (12, None)
