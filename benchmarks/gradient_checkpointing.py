"""What gradient checkpointing saves: the memory that a training step takes beyond the weights, and its time.

python benchmarks/gradient_checkpointing.py [--encoder vit_small_patch16_224 --size 224 --batch 16]

Each setting is a process of its own; the memory is the rise of its peak over what it held before the first step.
"""

import argparse
import resource
import subprocess
import sys
import time

import torch

from pullpush.encoders import ImageEncoder
from pullpush.encoders.tuning import checkpoint_gradients, tune

TUNES = ("all", "lora", "last-stages", "head")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="vit_small_patch16_224")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--one", nargs=2, metavar=("TUNE", "CHECKPOINTING"))
    own = parser.parse_args()
    if own.one:
        print(measured(own))
        return
    print("| what learns | | MB beyond the weights | seconds a step |", "| --- | --- | --- | --- |", sep="\n")
    for what in TUNES:
        for checkpointing in ("plain", "checkpointed") if what != "head" else ("plain",):
            given = ["--encoder", own.encoder, "--size", str(own.size), "--batch", str(own.batch)]
            command = [sys.executable, __file__, *given, "--one", what, checkpointing]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            print(f"| {what} | {checkpointing} | {done.stdout.strip()} |", flush=True)


def measured(own: argparse.Namespace) -> str:
    torch.set_num_threads(1)
    encoder = ImageEncoder(own.encoder, weights="none", size=own.size)
    what, checkpointing = own.one
    tune(encoder, what)
    if checkpointing == "checkpointed":
        checkpoint_gradients(encoder)
    images = torch.randn(own.batch, 3, own.size, own.size)
    before, seconds = peak(), []
    for _ in range(3):
        since = time.process_time()
        encoder(images).sum().backward()
        seconds.append(time.process_time() - since)
    return f"{peak() - before:.0f} | {min(seconds):.2f}"


def peak() -> float:
    """In MB, of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
