"""Tiny random models, saved as their libraries save them."""

import json
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessor,
    PreTrainedTokenizerFast,
)

TEXT = "a an the dog cat car tree sky runs sits of on in red blue green man woman photo question answer :"
NUM_QUERIES = 4


def save_blip2(folder: Path, seed: int = 0) -> Path:
    """A BLIP-2 with an OPT language model of 32 dimensions, 20 × 20 pictures and a vocabulary of 30 words."""
    torch.manual_seed(seed)
    tokenizer = word_tokenizer()
    processor = Blip2Processor(
        BlipImageProcessor(size={"height": 20, "width": 20}), tokenizer, num_query_tokens=NUM_QUERIES
    )
    tower = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "initializer_range": 0.5,
    }
    config = Blip2Config(
        vision_config={**tower, "image_size": 20, "patch_size": 5},
        qformer_config={**tower, "encoder_hidden_size": 32, "cross_attention_frequency": 1, "vocab_size": 8},
        text_config={
            "model_type": "opt", "vocab_size": len(tokenizer), "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "word_embed_proj_dim": 32, "max_position_embeddings": 128, "pad_token_id": 1,
            "bos_token_id": 2, "eos_token_id": 2, "do_layer_norm_before": True, "init_std": 0.5,
        },
        num_query_tokens=NUM_QUERIES, image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        initializer_range=0.5,
    )  # fmt: skip
    model = Blip2ForConditionalGeneration(config).eval()
    torch.nn.init.normal_(model.query_tokens, std=1.0)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def word_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: index for index, word in enumerate(["<unk>", "<pad>", "</s>", *TEXT.split()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", bos_token="</s>", eos_token="</s>"
    )


CLIP_CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def save_open_clip(folder: Path, seed: int = 0) -> Path:
    """An OpenCLIP model as `local-dir:` reads it: 32 × 32 pictures, 16 tokens."""
    torch.manual_seed(seed)
    preprocess = {"size": [32, 32], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    config = {"model_cfg": CLIP_CONFIG, "preprocess_cfg": preprocess}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    model = open_clip.CLIP(CLIP_CONFIG["embed_dim"], CLIP_CONFIG["vision_cfg"], CLIP_CONFIG["text_cfg"])
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    return folder
