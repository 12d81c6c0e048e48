"""Backbones: the models that encoders begin with. A library of models is one file beside `backbone.py`."""

from pullpush.encoders.backbones.backbone import (
    About,
    Joint,
    about,
    image_backbone,
    joint,
    libraries,
    library,
    own_size,
    text_backbone,
)

__all__ = ["About", "Joint", "about", "image_backbone", "joint", "libraries", "library", "own_size", "text_backbone"]
