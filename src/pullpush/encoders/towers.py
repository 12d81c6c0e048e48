"""Two towers, one space: images and texts."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from pullpush.encoders.image import ImageEncoder
from pullpush.encoders.text import TextEncoder
from pullpush.errors import UserError

__all__ = ["TwoTowers", "keep_space"]


@torch.no_grad()
def keep_space(heads: Sequence[nn.Linear], features: Sequence[Tensor] = ()) -> None:
    r"""Sets the linear heads of two towers that have one space to one projection, in place, so that they keep it.

    With as many dimensions as the features, or more, it is the identity: embeddings are the features. With fewer it is
    $V^T$, the first right singular vectors of the features $X = U S V^T$ of both towers, each of length 1: of all
    projections to so many dimensions the one whose products $X V V^T X^T$ differ least from the cosines $X X^T$.

    Args:
        heads: `[width] -> [dim]`, of both towers, or of one where the other has none.
        features: `[n, width]` of each tower; read where `dim < width` only.

    Source: Eckart and Young, The Approximation of One Matrix by Another of Lower Rank, Psychometrika 1936.
    """
    for head in heads:
        nn.init.eye_(head.weight)
        nn.init.zeros_(head.bias)
        if head.out_features < head.in_features:
            x = torch.cat([normalize(each.double(), dim=1) for each in features])
            directions = torch.linalg.svd(x, full_matrices=len(x) < head.out_features)[2]
            head.weight.copy_(directions[: head.out_features])


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
