"""VideoPoet's language model (arXiv 2312.14125): a prefix LM over special, visual, audio and motion tokens.

The backbone is transformers' Llama decoder. Each output position predicts only what it can take: a visual position
one of the visual codes, an audio position a code of its level, a motion position a motion code, the others a special
token.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, LlamaConfig, LlamaModel
from transformers.models.llama.modeling_llama import LlamaPreTrainedModel

from schemas.vocabulary import NUM_SPECIAL, SPECIAL_TOKENS, Vocabulary
from training.sequences import AUDIO, MOTION, SPECIAL, VISUAL, SequenceBatch
from training.visual_tokens import VisualTokens


class ReelLmConfig(LlamaConfig):
    """Llama's configuration, what the tokens are, and which tokenizers made them.

    `pad_given` is that of `training.sequences.Layout`. `visual_factors` multiply to the number of visual codes:
    [262144] is one softmax, [512, 512] two in turn. `tokenizers` holds `schemas.shards.TokenizerInfo` as dicts by kind;
    `tasks` the tasks it was trained on; `formats` the clips it saw: latent grid (t h w), frames, rate, audio columns.
    """

    model_type = "reelmill_lm"

    text_width: int = 384
    empty_text_length: int = 1
    visual_factors: list[int] | None = None
    audio_levels: int = 4
    audio_codebook_size: int = 1024
    motion_codebook_size: int = 0
    temporal_stride: int = 4
    pad_given: bool = False
    max_latent_frames: int = 32
    max_grid_side: int = 128
    max_audio_columns: int = 1024
    max_motion_codes: int = 1024
    tokenizers: dict[str, Any] | None = None
    tasks: list[str] | None = None
    formats: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any):
        self.visual_factors = [512, 512] if self.visual_factors is None else self.visual_factors
        self.vocab_size = self.vocabulary.size
        self.pad_token_id, self.bos_token_id, self.eos_token_id = (SPECIAL_TOKENS[n] for n in ("pad", "bos", "eos"))
        super().__post_init__(**kwargs)

    @property
    def vocabulary(self) -> Vocabulary:
        size = 1
        for factor in self.visual_factors or ():
            size *= factor
        return Vocabulary(size, self.audio_levels, self.audio_codebook_size, motion_size=self.motion_codebook_size)


class TensorBatch(NamedTuple):
    """`training.sequences.SequenceBatch` as tensors on the model's device; the same shapes.

    `targets` is what is to be predicted where that is not what `ids` show (`with_noise`).
    """

    ids: Tensor
    places: Tensor
    padding: Tensor
    prefix_length: int
    text: Tensor
    targets: Tensor | None = None

    @property
    def outputs(self) -> Tensor:
        """(B, O) int64: what is to be predicted."""
        return self.ids[:, self.prefix_length :] if self.targets is None else self.targets

    def with_noise(self, most: float, first: int, last: int, generator: torch.Generator) -> "TensorBatch":
        """The same batch, in whose outputs a share of the ids from `first` up to `last` shows others of them.

        A model that has seen only true codes strays once it goes on from its own. The share is drawn for each sample,
        up to `most`; what is to be predicted stays.
        """
        shown = self.outputs.cpu()
        known = (shown >= first) & (shown < last)
        share = torch.rand(len(shown), 1, generator=generator) * most
        changed = (torch.rand(shown.shape, generator=generator) < share) & known
        pool = shown[known]
        if not len(pool):
            return self
        drawn = pool[torch.randint(len(pool), shown.shape, generator=generator)]
        shown = torch.where(changed, drawn, shown).to(self.ids.device)
        return self._replace(ids=torch.cat([self.ids[:, : self.prefix_length], shown], dim=1), targets=self.outputs)


def to_tensors(batch: SequenceBatch, device: torch.device | str) -> TensorBatch:
    """The batch on a device."""
    ids, places, padding, text = (
        torch.from_numpy(array).to(device) for array in (batch.ids, batch.places, batch.padding, batch.text)
    )
    return TensorBatch(ids, places, padding, batch.prefix_length, text)


PictureLoss = Callable[[list[Tensor]], Tensor]


class LmOutput(NamedTuple):
    """Attributes:
    loss: mean over output tokens, nats, and what else counts, with gradient.
    nll_BO: nats of each output token, float32, without gradient.
    kinds_BO: SPECIAL, VISUAL, AUDIO or MOTION.
    """

    loss: Tensor
    nll_BO: Tensor
    kinds_BO: Tensor


def prefix_mask(batch: TensorBatch, length: int) -> Tensor:
    """(B or 1, 1, length, length) bool, True where a query may look: all of the prefix, and what came before.

    Pads see and are seen by nobody but themselves.
    """
    position = torch.arange(length, device=batch.ids.device)
    query, key = position[:, None], position[None, :]
    allowed = (key <= query) | (key < batch.prefix_length)
    if not bool(batch.padding.any()):
        return allowed[None, None]
    real = position >= batch.padding[:, None]  # B S
    return ((allowed & real[:, None, :]) | (query == key))[:, None]


class ReelLm(LlamaPreTrainedModel):
    """The prefix language model."""

    config_class = ReelLmConfig
    config: ReelLmConfig
    empty_text: Tensor
    base_model_prefix = "backbone"

    def __init__(self, config: ReelLmConfig):
        super().__init__(config)
        width = config.hidden_size
        backbone_config = LlamaConfig(**{**config.to_dict(), "vocab_size": NUM_SPECIAL, "model_type": "llama"})
        backbone_config._attn_implementation = config._attn_implementation
        self.backbone = LlamaModel(backbone_config)  # its own embeddings are those of the special tokens
        self.visual = VisualTokens(config.visual_factors or (), width)
        self.audio = nn.Embedding(config.audio_levels * config.audio_codebook_size, width)
        self.text_projection = nn.Linear(config.text_width, width)
        self.visual_places = nn.ModuleList(
            nn.Embedding(size, width) for size in (config.max_latent_frames, config.max_grid_side, config.max_grid_side)
        )
        self.audio_places = nn.ModuleList(
            nn.Embedding(size, width) for size in (config.audio_levels, config.max_audio_columns)
        )
        if config.motion_codebook_size:
            self.motion = nn.Embedding(config.motion_codebook_size, width)
            self.motion_places = nn.Embedding(config.max_motion_codes, width)
        self.segment = nn.Embedding(2, width)
        self.register_buffer("empty_text", torch.zeros(config.empty_text_length, config.text_width))
        self.post_init()

    @property
    def vocabulary(self) -> Vocabulary:
        return self.config.vocabulary

    def kinds(self, ids: Tensor) -> Tensor:
        """SPECIAL, VISUAL, AUDIO or MOTION for each id."""
        bounds = (NUM_SPECIAL, self.vocabulary.audio_offset, self.vocabulary.motion_offset)
        return torch.stack([ids >= bound for bound in bounds]).sum(dim=0)

    def embed(self, ids: Tensor, places: Tensor, output: Tensor, text: Tensor | None = None) -> Tensor:
        """Input embeddings.

        Args:
            ids: (B, S) int64.
            places: (B, S, 3) int64.
            output: (S,) int64, 1 where a position belongs to the output, 0 in the prefix.
            text: (slots, D_text), the states of the text slots in the order in which they stand.
        """
        kinds = self.kinds(ids)
        visual, audio = kinds == VISUAL, kinds == AUDIO
        embeddings = self.backbone.embed_tokens(ids.where(kinds == SPECIAL, 0))
        visual_part = self.visual.embed((ids - self.vocabulary.visual_offset).where(visual, 0))
        audio_part = self.audio((ids - self.vocabulary.audio_offset).where(audio, 0))
        for axis, table in enumerate(self.visual_places):
            visual_part = visual_part + table(places[..., axis].where(visual, 0))
        for axis, table in enumerate(self.audio_places):
            audio_part = audio_part + table(places[..., axis].where(audio, 0))
        embeddings = embeddings.where((kinds == SPECIAL)[..., None], visual_part.where(visual[..., None], audio_part))
        if self.config.motion_codebook_size:
            motion = kinds == MOTION
            motion_part = self.motion((ids - self.vocabulary.motion_offset).where(motion, 0))
            motion_part = motion_part + self.motion_places(places[..., 0].where(motion, 0))
            embeddings = motion_part.where(motion[..., None], embeddings)
        if text is not None and len(text):
            projected = self.text_projection(text.to(self.text_projection.weight.dtype))
            slots = ids == SPECIAL_TOKENS["text"]
            embeddings = embeddings.masked_scatter(slots[..., None], projected.to(embeddings.dtype))
        return embeddings + self.segment(output)

    def hidden(self, batch: TensorBatch, length: int | None = None, cache: Any = None) -> Tensor:
        """(B, length, D) after the last norm, of the first `length` tokens (default: all)."""
        length = batch.ids.shape[1] if length is None else length
        position = torch.arange(length, device=batch.ids.device)
        output = (position >= batch.prefix_length).long()
        embeddings = self.embed(batch.ids[:, :length], batch.places[:, :length], output, batch.text)
        return self.backbone(
            inputs_embeds=embeddings,
            attention_mask=prefix_mask(batch, length),
            position_ids=(position - batch.padding[:, None]).clamp(min=0),
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state

    def forward(self, batch: TensorBatch, pictures: PictureLoss | None = None) -> LmOutput:
        """The loss of every output token given all before it.

        Args:
            pictures: a further loss, of the logits (B·n V) of each factor of the visual codes.
        """
        self._check_places(batch)
        outputs = batch.outputs
        # Position i predicts token i + 1; the last token predicts nothing.
        hidden_BOD = self.hidden(batch, batch.ids.shape[1] - 1)[:, batch.prefix_length - 1 :]
        rows_ND, ids_N = hidden_BOD.flatten(0, 1), outputs.flatten()
        kinds_N = self.kinds(ids_N)
        total, nll_N = rows_ND.new_zeros(()), rows_ND.new_zeros(len(ids_N), dtype=torch.float32)
        losses = {
            SPECIAL: self._special_loss, VISUAL: self._visual_loss, AUDIO: self._audio_loss, MOTION: self._motion_loss,
        }  # fmt: skip
        for kind, loss in losses.items():
            where_n = (kinds_N == kind).nonzero().squeeze(1)
            if len(where_n):
                kind_loss, kind_nll_n = loss(rows_ND[where_n], ids_N[where_n])
                total = total + kind_loss
                nll_N = nll_N.index_copy(0, where_n, kind_nll_n)
        mean = total / len(ids_N)
        if pictures is not None:
            mean = mean + pictures(self.visual.likeliest_logits(rows_ND[kinds_N == VISUAL]))
        return LmOutput(mean, nll_N.view(outputs.shape), kinds_N.view(outputs.shape))

    def _special_loss(self, rows_nD: Tensor, ids_n: Tensor) -> tuple[Tensor, Tensor]:
        nll_n = F.cross_entropy(F.linear(rows_nD, self.backbone.embed_tokens.weight).float(), ids_n, reduction="none")
        return nll_n.sum(), nll_n.detach()

    def _visual_loss(self, rows_nD: Tensor, ids_n: Tensor) -> tuple[Tensor, Tensor]:
        scale_n = rows_nD.new_ones(len(ids_n), dtype=torch.float32)
        return self.visual.loss(rows_nD, ids_n - self.vocabulary.visual_offset, scale_n)

    def _audio_loss(self, rows_nD: Tensor, ids_n: Tensor) -> tuple[Tensor, Tensor]:
        codes_n = ids_n - self.vocabulary.audio_offset
        levels_n, codes_n = codes_n // self.config.audio_codebook_size, codes_n % self.config.audio_codebook_size
        total, nll_n = rows_nD.new_zeros(()), rows_nD.new_zeros(len(ids_n), dtype=torch.float32)
        for level in range(self.config.audio_levels):
            where = (levels_n == level).nonzero().squeeze(1)
            if len(where):
                logits = self.audio_logits(rows_nD[where], level).float()
                level_nll = F.cross_entropy(logits, codes_n[where], reduction="none")
                total, nll_n = total + level_nll.sum(), nll_n.index_copy(0, where, level_nll.detach())
        return total, nll_n

    def _motion_loss(self, rows_nD: Tensor, ids_n: Tensor) -> tuple[Tensor, Tensor]:
        codes_n = ids_n - self.vocabulary.motion_offset
        nll_n = F.cross_entropy(F.linear(rows_nD, self.motion.weight).float(), codes_n, reduction="none")
        return nll_n.sum(), nll_n.detach()

    def audio_logits(self, rows_nD: Tensor, level: int) -> Tensor:
        """(n, codebook size): the codes of one level."""
        size = self.config.audio_codebook_size
        return F.linear(rows_nD, self.audio.weight[level * size : (level + 1) * size])

    def _check_places(self, batch: TensorBatch) -> None:
        """Index errors on a GPU are unreadable and late; these limits come from the configuration."""
        config, kinds = self.config, self.kinds(batch.ids)
        visual, audio, motion = (kinds == kind for kind in (VISUAL, AUDIO, MOTION))
        limits = ((visual, 0, "max_latent_frames"), (visual, 1, "max_grid_side"), (visual, 2, "max_grid_side"),
                  (audio, 0, "audio_levels"), (audio, 1, "max_audio_columns"),
                  (motion, 0, "max_motion_codes"))  # fmt: skip
        for where, axis, name in limits:
            largest = int(batch.places[..., axis].where(where, 0).max())
            if largest >= getattr(config, name):
                raise ValueError(
                    f"a token stands at index {largest}, the model's {name} is {getattr(config, name)}; "
                    f"train a model with a larger {name}"
                )


AutoConfig.register(ReelLmConfig.model_type, ReelLmConfig)
AutoModel.register(ReelLmConfig, ReelLm)
