"""Models of open_clip with random weights and few parameters, in folders as open_clip writes them for the hub."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

__all__ = ["KINDS", "TEXT", "VISION", "tiny_open_clip"]

VISION: dict[str, Any] = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16}
TEXT: dict[str, Any] = {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
SIGLIP = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _configs(folder: Path) -> dict[str, dict[str, Any]]:
    timm = {"timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none", "image_size": 160}
    convnet = {"timm_model_name": "test_convnext", "timm_pool": "", "timm_proj": "linear", "image_size": 64}
    of_siglip = {"hf_tokenizer_name": "beside", "no_causal_mask": True, "pool_type": "last", "proj_bias": True}
    coca = {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
    resnet = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    heads = {"context_length": 11, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    bert = {"hf_model_name": str(folder / "bert"), "hf_tokenizer_name": "beside", "hf_proj_type": "mlp"}
    return {
        "vit": {"vision_cfg": VISION, "text_cfg": TEXT},
        "quick": {"vision_cfg": {**VISION, "pool_type": "avg"}, "text_cfg": TEXT, "quick_gelu": True},
        "resnet": {"vision_cfg": resnet, "text_cfg": TEXT},
        "convnet": {"vision_cfg": convnet, "text_cfg": TEXT},
        "siglip": {
            "embed_dim": 64,  # of the trunk, which has no projection
            "vision_cfg": timm,
            "text_cfg": {**TEXT, "vocab_size": 60, **of_siglip},
            "custom_text": True,
            "init_logit_scale": 2.3,
            "init_logit_bias": -7.0,
        },
        "coca": {
            "vision_cfg": {**VISION, **coca},
            "text_cfg": {**TEXT, "context_length": 11, "embed_cls": True, "output_tokens": True},
            "multimodal_cfg": heads,
            "custom_text": True,
        },
        "bert": {"vision_cfg": VISION, "text_cfg": {"context_length": 12, "hf_pooler_type": "mean_pooler", **bert}},
    }


KINDS = (*_configs(Path()),)


def tiny_open_clip(folder: Path, kind: str = "vit") -> str:
    """Writes a model, and returns the folder."""
    import open_clip
    from transformers import BertConfig

    config = {"embed_dim": 24, **_configs(folder)[kind]}
    folder.mkdir(parents=True)
    if "hf_tokenizer_name" in config["text_cfg"]:
        _letters().save_pretrained(folder)
    if kind == "bert":
        sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        BertConfig(vocab_size=60, pad_token_id=55, **sizes).save_pretrained(folder / "bert")
    own = json.loads(json.dumps(config))
    if own.pop("custom_text", False) or kind == "bert":
        own["text_cfg"].setdefault("hf_model_pretrained", False)
        made = open_clip.CoCa if kind == "coca" else open_clip.CustomTextCLIP
    else:
        made = open_clip.CLIP
    torch.manual_seed(0)
    model: Any = made(**own)
    with torch.no_grad():
        for parameter in model.parameters():  # wide enough for outputs that differ
            if parameter.ndim > 1:
                parameter.normal_(std=0.15)
    preprocess = {"preprocess_cfg": SIGLIP} if kind == "siglip" else {}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, **preprocess}))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return str(folder)


def _letters() -> Any:
    """A tokenizer of letters with files of its own."""
    from transformers import CLIPTokenizer

    parts = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>", "!", "[PAD]"]
    numbers = {part: number for number, part in enumerate(parts)}
    return CLIPTokenizer(numbers, [], pad_token="[PAD]", unk_token="!", model_max_length=12)
