"""From whatever is in an image file to pixels, in one way for training, evaluation, search and uploads.

A model must see at query time what it saw in training, so there is one decoder, and it stands below all rooms. This
package imports neither torch nor any room; `preprocessing`, which gives tensors, is imported by name.
"""

from pullpush.images.decode import (
    Fit,
    TooLarge,
    Unreadable,
    any_rgb,
    decode,
    fit_of,
    open_rgb,
    opened,
    resize_and_center,
    to_rgb,
)
from pullpush.images.files import find_images
from pullpush.images.formats import FORMATS, NAMES, image_format

__all__ = [
    "FORMATS",
    "NAMES",
    "Fit",
    "TooLarge",
    "Unreadable",
    "any_rgb",
    "decode",
    "find_images",
    "fit_of",
    "image_format",
    "open_rgb",
    "opened",
    "resize_and_center",
    "to_rgb",
]
