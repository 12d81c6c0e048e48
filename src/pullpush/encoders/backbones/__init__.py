"""Backbones: the models that encoders begin with. A library of models is one file beside `backbone.py`."""

from pullpush.encoders.backbones.backbone import (
    About,
    about,
    image_backbone,
    libraries,
    library,
    own_size,
    text_backbone,
)

__all__ = ["About", "about", "image_backbone", "libraries", "library", "own_size", "text_backbone"]
