"""PML's training loop, as in its examples, on the encoder, the batches and the augmentation of `pullpush train`."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from pytorch_metric_learning import losses, miners
from torch import nn

from pullpush.encoders.encoder import Encoder
from pullpush.runs.config import Config
from pullpush.training.run import clip_gradients, learning_rate
from pullpush.training.task import Task

__all__ = ["steps_of_pml"]


def steps_of_pml(task: Task, config: Config, options: Mapping[str, Any]) -> Iterator[int]:
    """Trains `task.encoder`; after each step comes its number.

    Args:
        task: whose encoder and batches are taken; its criterion is not.
        config: steps and optimiser, as of a run of ours: AdamW at our rate, with warm-up, cosine decay and clipping.
        options: of the setting. `pml.loss`, `pml.miner`: classes of PML with their options, the others being PML's
            defaults. `pml.memory`: the size of its CrossBatchMemory around the loss. `pml.optimizer: notebooks`: Adam
            as in PML's notebooks instead (1e-5 for the trunk, 1e-4 for the embedder, weight decay 1e-4, no schedule).
    """
    encoder, notebooks = task.encoder, options.get("pml.optimizer") == "notebooks"
    loss_func = made(losses, options["pml.loss"])
    mining_func = made(miners, options["pml.miner"]) if "pml.miner" in options else None
    if "pml.memory" in options:
        size = options["pml.memory"]
        loss_func = losses.CrossBatchMemory(loss_func, config.encoder.dim, memory_size=size, miner=mining_func)
        mining_func = None  # the memory asks it itself
    optimizer = adam_of_notebooks(encoder) if notebooks else adamw_of_ours(encoder, config)

    for step, batch in enumerate(islice(task.batches(0), config.steps), 1):
        (images,), labels, _ = task.prepare(batch, encoder.device)
        optimizer.zero_grad()
        embeddings = encoder(images)
        indices_tuple = mining_func(embeddings, labels) if mining_func else None
        loss = loss_func(embeddings, labels, indices_tuple)
        loss.backward()
        if not notebooks:
            clip_gradients(encoder, config.optimizer.clip)
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * learning_rate(step, config.steps, config.optimizer.warmup)
        optimizer.step()
        yield step


def made(module: Any, named: Mapping[str, Any]) -> nn.Module:
    """`losses.ContrastiveLoss(neg_margin=0.5)` of `{"name": "ContrastiveLoss", "neg_margin": 0.5}`."""
    options = dict(named)
    thing: nn.Module = getattr(module, options.pop("name"))(**options)
    return thing


def adamw_of_ours(encoder: Encoder, config: Config) -> torch.optim.Optimizer:
    o = config.optimizer
    groups = encoder.parameter_groups(o.lr, backbone_scale=o.backbone_scale, weight_decay=o.weight_decay)
    return torch.optim.AdamW([{**group, "initial_lr": group["lr"]} for group in groups], fused=True)


def adam_of_notebooks(encoder: Encoder) -> torch.optim.Optimizer:
    rates = {"params": encoder.backbone.parameters(), "lr": 1e-5}, {"params": encoder.head.parameters(), "lr": 1e-4}
    return torch.optim.Adam(rates, weight_decay=1e-4)
