"""What masked transformers over video tokens share: a grid of codes, some of them hidden; attention; and the loss."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.configuration_utils import PreTrainedConfig

from training.visual_tokens import factor_nll, split_codes

MAX_PLAIN_CONTEXT = 512


class MaskedTokensConfig(PreTrainedConfig):
    """Sizes of the model, and which tokenizers made its tokens (as in `training.lm.ReelLmConfig`)."""

    width: int = 192
    num_heads: int = 4
    mlp_ratio: int = 4
    factors: list[int] | None = None
    text_width: int = 384
    empty_text_length: int = 1
    max_latent_frames: int = 32
    max_grid_side: int = 128
    initializer_range: float = 0.02
    tokenizers: dict[str, Any] | None = None
    formats: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any):
        self.factors = [512, 512] if self.factors is None else self.factors
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is not a multiple of num_heads {self.num_heads}")
        super().__post_init__(**kwargs)


class MaskedOutput(NamedTuple):
    """Attributes:
    loss: mean over hidden tokens, nats per token (all factors), with gradient.
    nll_BN: nats of every token, without gradient.
    mask_BN: True where a token was hidden.
    """

    loss: Tensor
    nll_BN: Tensor
    mask_BN: Tensor


class Attention(nn.Module):
    """Multi-head attention of x to a context."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x_BSD: Tensor, context_BLD: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        q = rearrange(self.query(x_BSD), "b s (n d) -> b n s d", n=self.num_heads)
        k, v = rearrange(self.key_value(context_BLD), "b l (two n d) -> two b n l d", two=2, n=self.num_heads)
        mask = None if mask_BL is None else mask_BL[:, None, None, :]
        plain = q.device.type == "cpu" and q.requires_grad and k.shape[-2] <= MAX_PLAIN_CONTEXT
        attend = _plain_attention if plain else F.scaled_dot_product_attention
        return self.out(rearrange(attend(q, k, v, mask), "b n s d -> b s (n d)"))


def _plain_attention(q_BNSD: Tensor, k_BNLD: Tensor, v_BNLD: Tensor, mask_B11L: Tensor | None) -> Tensor:
    """Attention by its formula: on CPUs, the gradient of the fused kernel takes thrice as long for short contexts."""
    scores_BNSL = (q_BNSD * q_BNSD.shape[-1] ** -0.5) @ k_BNLD.transpose(-1, -2)
    if mask_B11L is not None:
        scores_BNSL = scores_BNSL.masked_fill(~mask_B11L, -torch.inf)
    return scores_BNSL.float().softmax(dim=-1).to(v_BNLD.dtype) @ v_BNLD


def mlp(config: MaskedTokensConfig) -> nn.Sequential:
    """The last part of a layer."""
    inner = config.mlp_ratio * config.width
    return nn.Sequential(nn.Linear(config.width, inner), nn.GELU(), nn.Linear(inner, config.width))


class TokenGrid(nn.Module):
    """Embeds a grid of codes: the sum of the factors' embeddings and of learned places along each axis."""

    def __init__(self, factors: Sequence[int], width: int, max_latent_frames: int, max_side: int):
        super().__init__()
        self.factors = list(factors)
        self.tables = nn.ModuleList(nn.Embedding(size, width) for size in self.factors)
        self.hidden = nn.Parameter(torch.zeros(width))  # stands where a code is hidden
        self.places = nn.ModuleList(nn.Embedding(size, width) for size in (max_latent_frames, max_side, max_side))

    @property
    def embeddings(self) -> list[nn.Embedding]:
        """One table for each factor."""
        return cast(list[nn.Embedding], list(self.tables))

    def embed(self, codes_Bthw: Tensor) -> Tensor:
        """(B t h w D) of the codes alone."""
        parts = split_codes(codes_Bthw, self.factors)
        return torch.stack([table(part) for table, part in zip(self.embeddings, parts, strict=True)]).sum(dim=0)

    def forward(self, codes_Bthw: Tensor, hide_Bthw: Tensor) -> Tensor:
        """(B t h w D)."""
        places = cast(list[nn.Embedding], list(self.places))
        for axis, (size, table) in enumerate(zip(codes_Bthw.shape[1:], places, strict=True)):
            if size > table.num_embeddings:
                raise ValueError(f"axis {axis} of the grid has {size} tokens, the model takes {table.num_embeddings}")
        x = self.embed(codes_Bthw)
        x = self.hidden.to(x.dtype).where(hide_Bthw[..., None], x)
        t, h, w = (table.weight[:size] for table, size in zip(places, codes_Bthw.shape[1:], strict=True))
        return x + t[:, None, None] + h[:, None] + w


class MaskedTokens(PreTrainedModel):
    """A model of hidden codes given the others and a text: what comes before its layers, and after."""

    empty_text: Tensor

    def __init__(self, config: MaskedTokensConfig):
        super().__init__(config)
        self.factors = tuple(config.factors or ())
        self.text_projection = nn.Linear(config.text_width, config.width)
        self.norm = nn.RMSNorm(config.width, eps=1e-6)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(size)) for size in self.factors)
        self.register_buffer("empty_text", torch.zeros(config.empty_text_length, config.text_width))

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    @property
    def codebook_size(self) -> int:
        return math.prod(self.factors)

    def token_grid(self) -> TokenGrid:
        """An embedding of codes for this model."""
        config = self.config
        return TokenGrid(self.factors, config.width, config.max_latent_frames, config.max_grid_side)

    def text_states(self, text_BLD: Tensor) -> Tensor:
        """(B L width)."""
        projected: Tensor = self.text_projection(text_BLD.to(self.text_projection.weight.dtype))
        return projected

    def logits(self, x_BthwD: Tensor, grid: TokenGrid) -> list[Tensor]:
        """(B t h w V) of each factor, by the embeddings of `grid`."""
        x_BthwD, biases = self.norm(x_BthwD), cast(list[Tensor], list(self.biases))
        return [F.linear(x_BthwD, table.weight, bias) for table, bias in zip(grid.embeddings, biases, strict=True)]

    def hidden_loss(self, logits: Sequence[Tensor], codes_Bthw: Tensor, mask_BN: Tensor) -> MaskedOutput:
        """Cross-entropy of the tokens that `mask_BN` hides."""
        nll_BN = factor_nll(logits, codes_Bthw, self.factors)
        return MaskedOutput((nll_BN * mask_BN).sum() / mask_BN.sum(), nll_BN.detach(), mask_BN)
