"""Backbones: the models that encoders begin with. A library of models is one file beside `backbone.py`."""

from pullpush.encoders.backbones.backbone import image_backbone, library, own_size, text_backbone

__all__ = ["image_backbone", "library", "own_size", "text_backbone"]
