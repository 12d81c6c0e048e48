"""Eight bits for each weight and activation of an ONNX graph."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pullpush.extras import need

__all__ = ["IMAGES", "quantize"]

IMAGES, BATCH = 256, 32
"""So many training images tell the range of each activation."""


def quantize(file: Path, images: NDArray[np.float32]) -> None:
    """Rewrites an ONNX graph of images so that its weights (a scale for each channel) and activations are integers of
    eight bits. The range of an activation is that from its least to its largest value of these images.

    Args:
        file: of the graph; replaced.
        images: `[n, 3, size, size]` of values 0 to 1, such as those of the training.
    """
    need("export", ("onnxruntime",))
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches: Iterator[Any] = iter(np.array_split(images, -(-len(images) // BATCH)))

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            return next(({"images": batch} for batch in self.batches), None)

    whole = file.with_suffix(".float32")
    file.rename(whole)
    types: dict[str, Any] = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(str(whole), str(file), Reader(), quant_format=QuantFormat.QDQ, per_channel=True, **types)
    whole.unlink()
