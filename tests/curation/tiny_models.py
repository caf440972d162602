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
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
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


CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }} : {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}answer :{% endif %}"
)


def save_llava(folder: Path, seed: int = 0) -> Path:
    """A LLaVA, which is asked in a chat and may see several pictures: Llama of 32 dimensions, 20 × 20 pictures."""
    torch.manual_seed(seed)
    tokenizer = word_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 20}, crop_size={"height": 20, "width": 20}), tokenizer, patch_size=5,
        vision_feature_select_strategy="default", num_additional_image_tokens=1, chat_template=CHAT_TEMPLATE,
    )  # fmt: skip
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**tower, image_size=20, patch_size=5, initializer_range=0.5),
        text_config=LlamaConfig(
            **tower, vocab_size=len(tokenizer), max_position_embeddings=256, initializer_range=0.5, pad_token_id=1,
            bos_token_id=2, eos_token_id=2,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), vision_feature_layer=-1,
    )  # fmt: skip
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def save_blip(folder: Path, seed: int = 0) -> Path:
    """A BLIP, which takes no text where there is no prompt: 32 dimensions, 20 × 20 pictures."""
    torch.manual_seed(seed)
    tokenizer = word_tokenizer()
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = BlipConfig(
        text_config={
            **tower, "vocab_size": len(tokenizer), "encoder_hidden_size": 32, "projection_dim": 16, "bos_token_id": 2,
            "eos_token_id": 2, "sep_token_id": 2, "pad_token_id": 1, "initializer_range": 0.5,
        },
        vision_config={**tower, "image_size": 20, "patch_size": 5, "initializer_range": 0.5}, projection_dim=16,
    )  # fmt: skip
    BlipForConditionalGeneration(config).save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(size={"height": 20, "width": 20}), tokenizer).save_pretrained(folder)
    return folder


def save_aesthetic_head(path: Path, size: int = 32) -> Path:
    """One linear layer on an embedding, as LAION's first."""
    torch.manual_seed(0)
    save_file({"weight": torch.randn(1, size), "bias": torch.full((1,), 5.0)}, path)
    return path


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
