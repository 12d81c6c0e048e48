"""Models of transformers with random weights and few parameters, written by the library itself: a folder with
config.json, model.safetensors, preprocessor_config.json and, of joint models, a tokenizer.

Each is as its family's checkpoints are: 32 pixels in patches of 8, hidden size 32, two layers, texts of 16 tokens.
"""

from pathlib import Path
from typing import Any

import torch

__all__ = [
    "TINY",
    "tiny_bert",
    "tiny_clip",
    "tiny_convnext",
    "tiny_dinov2",
    "tiny_dinov3",
    "tiny_dinov3_convnext",
    "tiny_siglip",
    "tiny_vit",
]

SIZE, PATCH, TOKENS, WIDTH = 32, 8, 16, 24
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,'-"
LAYERS: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "initializer_range": 0.1,  # wide enough for outputs that differ
}
VISION: dict[str, Any] = {**LAYERS, "image_size": SIZE, "patch_size": PATCH}
STAGES: dict[str, Any] = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "initializer_range": 0.1}


def tiny_bert(folder: Path) -> str:
    """A text model that sentence-transformers opens with a mean over the tokens: letters, texts of up to 80, no
    dropout."""
    from transformers import BertConfig, BertModel

    tokenizer = _letters()
    tokenizer.model_max_length, tokenizer.model_input_names = 80, ["input_ids", "attention_mask"]
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=80, **LAYERS, **still)
    return _written(folder, _seeded(BertModel, config), tokenizer)


def tiny_clip(folder: Path, temperature: float = 0.02) -> str:
    """CLIP, both towers with projections to 24 dimensions; a BPE tokenizer of letters."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

    parts = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer({part: number for number, part in enumerate(parts)}, [], model_max_length=TOKENS)
    start, end = len(parts) - 2, len(parts) - 1
    ends = {"bos_token_id": start, "eos_token_id": end, "pad_token_id": end}
    text = {**LAYERS, "vocab_size": len(parts), "max_position_embeddings": TOKENS, "projection_dim": WIDTH, **ends}
    vision = {**VISION, "projection_dim": WIDTH}
    config: Any = CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH, initializer_factor=3.0)
    model = _seeded(CLIPModel, config)
    model.logit_scale.data.fill_(torch.tensor(1 / temperature).log())
    size = {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}}
    return _written(folder, model, tokenizer, CLIPImageProcessor(**size))


def tiny_siglip(folder: Path, temperature: float = 0.05, bias: float = -7.0) -> str:
    """SigLIP, and SigLIP 2 of one resolution, which differs by its tokenizer alone; here one of letters."""
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    layers = {key: value for key, value in LAYERS.items() if key != "initializer_range"}
    vision = {**layers, "image_size": SIZE, "patch_size": PATCH}
    tokenizer = _letters()
    text = {**layers, "vocab_size": len(tokenizer), "max_position_embeddings": TOKENS, "pad_token_id": 1}
    text |= {"bos_token_id": 1, "eos_token_id": 1}
    model = _seeded(SiglipModel, SiglipConfig(text_config=text, vision_config=vision))
    model.logit_scale.data.fill_(torch.tensor(1 / temperature).log())
    model.logit_bias.data.fill_(bias)
    return _written(folder, model, tokenizer, SiglipImageProcessor(size={"height": SIZE, "width": SIZE}))


def tiny_dinov2(folder: Path, registers: int = 0) -> str:
    """DINOv2, with or without registers."""
    import transformers

    options = {key: value for key, value in VISION.items() if key != "intermediate_size"} | {"mlp_ratio": 2}
    if registers:
        made = transformers.Dinov2WithRegistersConfig(num_register_tokens=registers, **options)
        model = _seeded(transformers.Dinov2WithRegistersModel, made)
    else:
        model = _seeded(transformers.Dinov2Model, transformers.Dinov2Config(**options))
    sizes = {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}}
    of_imagenet = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    return _written(folder, model, transformers.BitImageProcessor(**sizes, **of_imagenet))


def tiny_dinov3(folder: Path, registers: int = 4) -> str:
    """DINOv3, the transformer: rotary positions and registers."""
    from transformers import DINOv3ViTConfig, DINOv3ViTImageProcessor, DINOv3ViTModel

    model = _seeded(DINOv3ViTModel, DINOv3ViTConfig(num_register_tokens=registers, **VISION))
    return _written(folder, model, DINOv3ViTImageProcessor(size={"height": SIZE, "width": SIZE}))


def tiny_dinov3_convnext(folder: Path) -> str:
    """DINOv3, the convolutional network."""
    from transformers import DINOv3ConvNextConfig, DINOv3ConvNextModel, DINOv3ViTImageProcessor

    model = _seeded(DINOv3ConvNextModel, DINOv3ConvNextConfig(image_size=SIZE, **STAGES))
    return _written(folder, model, DINOv3ViTImageProcessor(size={"height": SIZE, "width": SIZE}))


def tiny_vit(folder: Path) -> str:
    """ViT as its checkpoints for classification are: with a classifier, without a pooler."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    model = _seeded(ViTForImageClassification, ViTConfig(num_labels=3, **VISION))
    return _written(folder, model, ViTImageProcessor(size={"height": SIZE, "width": SIZE}))


def tiny_convnext(folder: Path) -> str:
    """ConvNeXt with a classifier."""
    from transformers import ConvNextConfig, ConvNextForImageClassification, ConvNextImageProcessor

    model = _seeded(ConvNextForImageClassification, ConvNextConfig(image_size=SIZE, num_labels=3, **STAGES))
    return _written(folder, model, ConvNextImageProcessor(size={"shortest_edge": SIZE}))


TINY = {
    "clip": tiny_clip,
    "convnext": tiny_convnext,
    "dinov2": tiny_dinov2,
    "dinov3": tiny_dinov3,
    "dinov3_convnext": tiny_dinov3_convnext,
    "siglip": tiny_siglip,
    "vit": tiny_vit,
}
"""All of them by name: `TINY["clip"](folder)` gives the folder, which `hf:FOLDER` names."""


def _seeded(kind: Any, config: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(config).eval()


def _written(folder: Path, *parts: Any) -> str:
    for part in parts:
        part.save_pretrained(str(folder))
    return str(folder)


def _letters() -> Any:
    """A tokenizer as SigLIP's: lower case, each text ends with one token that fills it up too; no mask is given."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    parts = ["<unk>", "</s>", *LETTERS, " "]
    tokenizer = Tokenizer(models.WordLevel({part: number for number, part in enumerate(parts)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    special = {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "</s>"}
    made: Any = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=TOKENS, model_input_names=["input_ids"], **special
    )
    return made
