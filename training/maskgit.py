"""Phenaki's generator: a bidirectional masked transformer over video tokens (arXiv 2210.02399, 2202.04200).

Every layer attends to all tokens of the window and to the caption; a share of the tokens is hidden and predicted. An
image is a window of one latent frame, so that images and videos train one model.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.configuration_utils import PreTrainedConfig

from training.generate_settings import MaskedSampling
from training.masking import iterate
from training.super_resolution import Attention, TokenGrid
from training.super_resolution_sampling import draw_codes
from training.text_condition import drop_text
from training.visual_tokens import factor_nll, merge_codes


class MaskGitConfig(PreTrainedConfig):
    """Sizes of the model, and which tokenizers made its tokens (as in `training.lm.ReelLmConfig`)."""

    model_type = "reelmill_maskgit"

    width: int = 192
    num_layers: int = 6
    num_heads: int = 4
    mlp_ratio: int = 4
    factors: list[int] | None = None
    text_width: int = 384
    empty_text_length: int = 1
    max_latent_frames: int = 32
    max_grid_side: int = 128
    initializer_range: float = 0.02
    tokenizers: dict[str, Any] | None = None
    tasks: list[str] | None = None
    formats: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any):
        self.factors = [512, 512] if self.factors is None else self.factors
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is not a multiple of num_heads {self.num_heads}")
        super().__post_init__(**kwargs)


class MaskGitOutput(NamedTuple):
    """Attributes:
    loss: mean over hidden tokens, nats per token, with gradient.
    nll_BN: nats of every token, without gradient.
    """

    loss: Tensor
    nll_BN: Tensor


class Layer(nn.Module):
    """Self-attention over the window, cross-attention to the caption, MLP."""

    def __init__(self, config: MaskGitConfig):
        super().__init__()
        width = config.width
        self.norms = nn.ModuleList(nn.RMSNorm(width, eps=1e-6) for _ in range(3))
        self.self_attention = Attention(width, config.num_heads)
        self.text_attention = Attention(width, config.num_heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, config.mlp_ratio * width), nn.GELU(), nn.Linear(config.mlp_ratio * width, width)
        )

    def forward(self, x_BND: Tensor, text_BLD: Tensor, text_mask_BL: Tensor) -> Tensor:
        normal = self.norms[0](x_BND)
        x_BND = x_BND + self.self_attention(normal, normal)
        x_BND = x_BND + self.text_attention(self.norms[1](x_BND), text_BLD, text_mask_BL)
        return x_BND + self.mlp(self.norms[2](x_BND))


class MaskGit(PreTrainedModel):
    """Codes of a window from captions and from the codes that are known."""

    config_class = MaskGitConfig
    config: MaskGitConfig
    empty_text: Tensor
    base_model_prefix = "maskgit"

    def __init__(self, config: MaskGitConfig):
        super().__init__(config)
        self.tokens = TokenGrid(config.factors or (), config.width, config.max_latent_frames, config.max_grid_side)
        self.text_projection = nn.Linear(config.text_width, config.width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.norm = nn.RMSNorm(config.width, eps=1e-6)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(size)) for size in self.tokens.factors)
        self.register_buffer("empty_text", torch.zeros(config.empty_text_length, config.text_width))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    @property
    def codebook_size(self) -> int:
        return math.prod(self.tokens.factors)

    def forward(self, codes_Bthw: Tensor, hide_Bthw: Tensor, text_BLD: Tensor, text_mask_BL: Tensor) -> list[Tensor]:
        """Logits (B t h w V) of each factor; `hide_Bthw` is True where a code is not to be seen."""
        x = self.tokens(codes_Bthw, hide_Bthw)
        shape = x.shape
        x = x.flatten(1, 3)
        text = self.text_projection(text_BLD.to(self.text_projection.weight.dtype))
        for layer in self.layers:
            x = layer(x, text, text_mask_BL)
        x = self.norm(x).view(shape)
        biases = cast(list[Tensor], list(self.biases))
        return [F.linear(x, table.weight, bias) for table, bias in zip(self.tokens.embeddings, biases, strict=True)]

    def masked_loss(self, codes_Bthw: Tensor, mask_BN: Tensor, text_BLD: Tensor, text_mask_BL: Tensor) -> MaskGitOutput:
        """Cross-entropy of the tokens that `mask_BN` hides."""
        logits = self(codes_Bthw, mask_BN.view(codes_Bthw.shape), text_BLD, text_mask_BL)
        nll_BN = factor_nll(logits, codes_Bthw, self.tokens.factors)
        return MaskGitOutput((nll_BN * mask_BN).sum() / mask_BN.sum(), nll_BN.detach())


@torch.inference_mode()
def sample_window(
    model: MaskGit, text_BLD: Tensor, text_mask_BL: Tensor, codes_Bthw: Tensor, known_frames: int,
    sampling: MaskedSampling, generator: torch.Generator, on_step: Callable[[int], None] = lambda step: None,
) -> Tensor:  # fmt: skip
    """Codes (B t h w) int64 of a window.

    Args:
        codes_Bthw: what is known stands in the first `known_frames` latent frames; the rest does not matter.
        on_step: called with the number of each finished round.
    """
    shape = codes_Bthw.shape
    everywhere = torch.ones(len(codes_Bthw), dtype=torch.bool, device=codes_Bthw.device)
    empty, empty_mask = drop_text(text_BLD, text_mask_BL, model.empty_text, everywhere)
    text, mask = drop_text(text_BLD, text_mask_BL, model.empty_text, ~everywhere)

    def predict(codes_BN: Tensor, unknown_BN: Tensor, step: int) -> tuple[Tensor, Tensor]:
        codes, hide = codes_BN.view(shape), unknown_BN.view(shape)
        if sampling.guidance == 1.0:
            logits = model(codes, hide, text, mask)
        else:
            both = model(
                codes.repeat(2, 1, 1, 1),
                hide.repeat(2, 1, 1, 1),
                torch.cat([text, empty]),
                torch.cat([mask, empty_mask]),
            )
            pairs = [factor.float().chunk(2) for factor in both]
            logits = [without + sampling.guidance * (given - without) for given, without in pairs]
        drawn = [draw_codes(factor, sampling.temperature, generator) for factor in logits]
        on_step(step + 1)
        log_probability = torch.stack([log for _, log in drawn]).sum(dim=0)
        return merge_codes([part for part, _ in drawn], model.tokens.factors).flatten(1), log_probability.flatten(1)

    unknown = torch.ones(shape, dtype=torch.bool, device=codes_Bthw.device)
    unknown[:, :known_frames] = False
    codes_BN = iterate(
        predict, codes_Bthw.flatten(1), unknown.flatten(1), steps=sampling.steps,
        choice_temperature=sampling.choice_temperature, generator=generator, schedule=sampling.schedule,
    )  # fmt: skip
    return codes_BN.view(shape)


AutoConfig.register(MaskGitConfig.model_type, MaskGitConfig)
AutoModel.register(MaskGitConfig, MaskGit)
