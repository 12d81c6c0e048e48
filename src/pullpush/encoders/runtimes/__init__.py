"""What computes embeddings in the place of eager PyTorch; a runtime is one file."""

from pullpush.encoders.runtimes.runtime import (
    LEAST,
    Function,
    Runtime,
    RuntimeName,
    functions_of,
    run_by,
    runtime,
    share,
    tokens_of,
    with_runtime,
    write_graphs,
)

__all__ = [
    "LEAST",
    "Function",
    "Runtime",
    "RuntimeName",
    "functions_of",
    "run_by",
    "runtime",
    "share",
    "tokens_of",
    "with_runtime",
    "write_graphs",
]
