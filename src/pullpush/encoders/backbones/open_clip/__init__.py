"""open_clip: both towers of its joint models.

Names are `MODEL`, `MODEL:TAG` or `MODEL:FILE` as open_clip has them (`ViT-B-32:laion2b_s34b_b79k`), `hf-hub:ORG/NAME`,
or a folder as open_clip writes it for the hub: open_clip_config.json with the weights. An embedding is that of
`encode_image` or `encode_text`, before it is brought to length 1.
"""

from pullpush.encoders.backbones.open_clip.loading import about, joint, own_size
from pullpush.encoders.backbones.open_clip.text import text
from pullpush.encoders.backbones.open_clip.vision import image

__all__ = ["about", "image", "joint", "own_size", "text"]
