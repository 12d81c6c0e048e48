"""Two towers, one space: images and texts."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from pullpush.encoders.image import ImageEncoder
from pullpush.encoders.text import TextEncoder
from pullpush.errors import UserError

__all__ = ["TwoTowers"]


class TwoTowers(nn.Module):
    """An image and a text encoder with embeddings of one `dim`.

    The scale (inverse temperature) of the similarities belongs to the loss, which fixes or learns it: the nearest
    neighbours do not depend on it, so a model is whole without it.

    Raises:
        UserError: the two dims differ.
    """

    def __init__(self, image: ImageEncoder, text: TextEncoder) -> None:
        super().__init__()
        if image.dim != text.dim:
            raise UserError(
                f"images are embedded in {image.dim} dimensions, texts in {text.dim}: give both the same dim"
            )
        self.image, self.text, self.dim = image, text, image.dim

    def forward(self, images: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Embeddings of both, `[n, dim]` and `[m, dim]`."""
        return self.image(images), self.text(texts)

    def parameter_groups(
        self, lr: float, *, backbone_scale: float = 1.0, text_scale: float = 1.0, weight_decay: float = 0.01
    ) -> list[dict[str, Any]]:
        """The groups of both towers; `backbone_scale` for the image backbone, `text_scale` for the transformer."""
        towers = {"image": (self.image, backbone_scale), "text": (self.text, text_scale)}
        return [
            {**group, "name": f"{tower}/{group['name']}"}
            for tower, (encoder, scale) in towers.items()
            for group in encoder.parameter_groups(lr, backbone_scale=scale, weight_decay=weight_decay)
        ]
