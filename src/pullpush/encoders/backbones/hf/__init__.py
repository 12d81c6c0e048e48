"""transformers: image models, and the towers of joint ones (CLIP, SigLIP).

An embedding is what the model's own documentation says it is: `image_embeds` of CLIP (the projection of the class
token); `pooler_output` of SigLIP, DINOv2, DINOv3, ConvNeXt and whatever else has one; of a ViT or BEiT whose checkpoint
has no pooler the class token after the norm.
"""

from pullpush.encoders.backbones.hf.images import image, own_size
from pullpush.encoders.backbones.hf.known import about, joint
from pullpush.encoders.backbones.hf.texts import text

__all__ = ["about", "image", "joint", "own_size", "text"]
