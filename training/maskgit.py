"""Phenaki's generator: a bidirectional masked transformer over video tokens (arXiv 2210.02399, 2202.04200).

Every layer attends to all tokens of the window and to the caption; a share of the tokens is hidden and predicted. An
image is a window of one latent frame, so that images and videos train one model.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from training.generate_settings import MaskedSampling
from training.masked_tokens import Attention, MaskedOutput, MaskedTokens, MaskedTokensConfig, mlp
from training.masking import iterate
from training.super_resolution_sampling import draw_codes
from training.text_condition import drop_text
from training.visual_tokens import merge_codes


class MaskGitConfig(MaskedTokensConfig):
    """Sizes of the model, and which tokenizers made its tokens (as in `training.lm.ReelLmConfig`)."""

    model_type = "reelmill_maskgit"

    num_layers: int = 6
    tasks: list[str] | None = None


class Layer(nn.Module):
    """Self-attention over the window, cross-attention to the caption, MLP."""

    def __init__(self, config: MaskGitConfig):
        super().__init__()
        width = config.width
        self.norms = nn.ModuleList(nn.RMSNorm(width, eps=1e-6) for _ in range(3))
        self.self_attention = Attention(width, config.num_heads)
        self.text_attention = Attention(width, config.num_heads)
        self.mlp = mlp(config)

    def forward(self, x_BND: Tensor, text_BLD: Tensor, text_mask_BL: Tensor) -> Tensor:
        normal = self.norms[0](x_BND)
        x_BND = x_BND + self.self_attention(normal, normal)
        x_BND = x_BND + self.text_attention(self.norms[1](x_BND), text_BLD, text_mask_BL)
        return x_BND + self.mlp(self.norms[2](x_BND))


class MaskGit(MaskedTokens):
    """Codes of a window from captions and from the codes that are known."""

    config_class = MaskGitConfig
    config: MaskGitConfig
    base_model_prefix = "maskgit"

    def __init__(self, config: MaskGitConfig):
        super().__init__(config)
        self.tokens = self.token_grid()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.post_init()

    def forward(self, codes_Bthw: Tensor, hide_Bthw: Tensor, text_BLD: Tensor, text_mask_BL: Tensor) -> list[Tensor]:
        """Logits (B t h w V) of each factor; `hide_Bthw` is True where a code is not to be seen."""
        x = self.tokens(codes_Bthw, hide_Bthw)
        shape = x.shape
        x = x.flatten(1, 3)
        text = self.text_states(text_BLD)
        for layer in self.layers:
            x = layer(x, text, text_mask_BL)
        return self.logits(x.view(shape), self.tokens)

    def masked_loss(self, codes_Bthw: Tensor, mask_BN: Tensor, text_BLD: Tensor, text_mask_BL: Tensor) -> MaskedOutput:
        """Cross-entropy of the tokens that `mask_BN` hides."""
        logits = self(codes_Bthw, mask_BN.view(codes_Bthw.shape), text_BLD, text_mask_BL)
        return self.hidden_loss(logits, codes_Bthw, mask_BN)


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
