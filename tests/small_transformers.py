"""Small networks of transformers, with random weights and inputs: real code that others wrote."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

TEXT = {"vocab_size": 37, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
BODY = TEXT | {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 28,
    "max_position_embeddings": 24,
}  # fmt: skip
IMAGE = {"image_size": 32, "patch_size": 8, "num_labels": 5}
VIT = BODY | IMAGE
GROUPED = BODY | {"num_key_value_heads": 2, "use_cache": False}


def tokens(count: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"input_ids": torch.randint(3, 37, (count, 11), generator=generator)}


def images(count: int) -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))}


def pairs(count: int) -> dict[str, torch.Tensor]:
    given = tokens(count)
    return given | {"decoder_input_ids": given["input_ids"][:, :7]}


T5 = TEXT | {"d_model": 16, "d_kv": 4, "d_ff": 28, "num_layers": 2, "num_heads": 4, "use_cache": False}
BART = TEXT | {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4, "use_cache": False,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 28, "decoder_ffn_dim": 20, "max_position_embeddings": 24,
}  # fmt: skip

# model class → (its configuration, inputs)
NETWORKS: dict[str, tuple[dict[str, Any], Callable[[int], dict[str, torch.Tensor]]]] = {
    "BertForSequenceClassification": (BODY, tokens),
    "RobertaForSequenceClassification": (BODY | {"max_position_embeddings": 40}, tokens),
    "ElectraForSequenceClassification": (BODY | {"embedding_size": 12}, tokens),
    "AlbertForSequenceClassification": (BODY | {"embedding_size": 12}, tokens),
    "DistilBertForSequenceClassification": (
        TEXT | {"dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 28, "max_position_embeddings": 24},
        tokens,
    ),
    "GPT2LMHeadModel": (
        TEXT | {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 24, "use_cache": False}, tokens,
    ),
    "GPTNeoXForCausalLM": (BODY | {"use_cache": False}, tokens),
    "OPTForCausalLM": (
        BODY | {"ffn_dim": 28, "word_embed_proj_dim": 16, "use_cache": False}, tokens,
    ),
    "LlamaForCausalLM": (GROUPED, tokens),
    "MistralForCausalLM": (GROUPED, tokens),
    "Qwen2ForCausalLM": (GROUPED, tokens),
    "T5ForConditionalGeneration": (T5 | {"decoder_start_token_id": 0}, pairs),
    "BartForConditionalGeneration": (BART, pairs),
    "ViTForImageClassification": (VIT, images),
    "DeiTForImageClassification": (VIT, images),
    "ConvNextForImageClassification": (
        {"hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 2, 1], "num_labels": 5}, images,
    ),
    "ResNetForImageClassification": (
        {"embedding_size": 8, "hidden_sizes": [16, 24], "depths": [1, 2], "num_labels": 5}, images,
    ),
    "RegNetForImageClassification": (
        {
            "embedding_size": 8, "hidden_sizes": [16, 24], "depths": [1, 2], "groups_width": 8,
            "num_labels": 5,
        },
        images,
    ),
    "MobileNetV2ForImageClassification": ({"depth_multiplier": 0.25, "num_labels": 5}, images),
    "SwinForImageClassification": (
        IMAGE | {"patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 4], "window_size": 4},
        images,
    ),
    "SegformerForImageClassification": (
        {
            "num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [2, 1], "hidden_sizes": [8, 16],
            "patch_sizes": [7, 3], "strides": [4, 2], "num_attention_heads": [1, 2], "mlp_ratios": [2, 2],
            "decoder_hidden_size": 16, "num_labels": 5,
        },
        images,
    ),
}  # fmt: skip


def build(name: str, **options: Any) -> nn.Module:
    """The network of that name in evaluation mode; skips where transformers is not installed."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    kind = getattr(transformers, name)
    return kind(kind.config_class(**NETWORKS[name][0], **options)).eval()


SEEN = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 28}
PIXELS = SEEN | {"image_size": 32, "patch_size": 8}
DEBERTA = BODY | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "max_relative_positions": 16}
SWITCH = T5 | {
    "num_experts": 4, "num_decoder_layers": 2, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1,
    "decoder_start_token_id": 0,
}  # fmt: skip
PERCEIVER = {
    "vocab_size": 37, "max_position_embeddings": 24, "d_model": 16, "d_latents": 20, "num_latents": 6,
    "num_blocks": 1, "num_self_attends_per_block": 2, "num_self_attention_heads": 4,
    "num_cross_attention_heads": 4,
}  # fmt: skip
# Networks with numbers for all units, views of parameters handed on, weights in modules of their own, and
# experts. Class → (configuration, inputs, groups that can be pruned).
ODD = {
    "CLIPModel": ({"text_config": BODY, "vision_config": PIXELS, "projection_dim": 12}, "both", 6),
    "RecurrentGemmaForCausalLM": (
        BODY | {"num_key_value_heads": 1, "lru_width": 16, "attention_window_size": 16, "head_dim": 4},
        "ids", 4,
    ),
    "DebertaForSequenceClassification": (DEBERTA, "ids", 6),
    "DebertaV2ForSequenceClassification": (DEBERTA | {"position_buckets": 8}, "ids", 5),
    "PerceiverForSequenceClassification": (PERCEIVER, "inputs", 8),
    "SwitchTransformersForConditionalGeneration": (SWITCH, "pairs", 8),
    "IBertForSequenceClassification": (BODY, "ids", 5),
    "XLNetForSequenceClassification": (
        {"vocab_size": 37, "d_model": 16, "n_layer": 2, "n_head": 4, "d_inner": 28}, "ids", 5,
    ),
    "MambaForCausalLM": (
        {"vocab_size": 37, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}, "ids", 2,
    ),
    "BitForImageClassification": (
        {"embedding_size": 16, "hidden_sizes": [32, 64], "depths": [1, 1], "num_groups": 4}, "pixels", 7,
    ),
}  # fmt: skip
