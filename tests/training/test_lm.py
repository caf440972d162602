"""The prefix language model: attention, loss, overfitting, decoding with and without cache, saving."""

import dataclasses

import pytest
import torch

from tests.training.token_samples import TEXT_WIDTH, token_sample
from training.decoding import decode, decode_without_cache
from training.lm import ReelLm, ReelLmConfig, TensorBatch, to_tensors
from training.sampling import Sampler, SamplingSettings
from training.sequences import AUDIO, SPECIAL, VISUAL, Layout, collate
from training.settings import LmSettings

GREEDY = SamplingSettings(temperature=0, guidance=1.0)


def tiny_config(**changes) -> ReelLmConfig:
    sizes = {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
        "text_width": TEXT_WIDTH, "max_grid_side": 8, "max_audio_columns": 32,
    }  # fmt: skip
    return ReelLmConfig(**{**sizes, **changes})


@pytest.fixture(scope="module")
def model() -> ReelLm:
    torch.manual_seed(0)
    return ReelLm(tiny_config(initializer_range=0.2)).eval()


def make_batch(task: str, count: int = 2, lengths: tuple[int, ...] = (3,), **shapes) -> TensorBatch:
    samples = [token_sample(i, text_length=lengths[i % len(lengths)], **shapes) for i in range(count)]
    return to_tensors(collate([Layout().build(task, sample) for sample in samples]), "cpu")


def blank(model: ReelLm, batch: TensorBatch) -> TensorBatch:
    """The batch with code 0 wherever its output holds a code."""
    ids, kinds = batch.ids.clone(), model.kinds(batch.ids)
    kinds[:, : batch.prefix_length] = SPECIAL
    ids[kinds == VISUAL] = model.vocabulary.visual_offset
    levels = batch.places[..., 0][kinds == AUDIO]
    ids[kinds == AUDIO] = model.vocabulary.audio_offset + 1024 * levels
    return batch._replace(ids=ids)


def changed_positions(model: ReelLm, batch: TensorBatch, position: int) -> list[int]:
    """Positions whose state moves when the code at `position` changes."""
    other = batch.ids.clone()
    other[:, position] += 1
    with torch.no_grad():
        before, after = model.hidden(batch), model.hidden(batch._replace(ids=other))
    moved = (before - after).abs().amax(dim=(0, 2)) > 1e-7
    return moved.nonzero().flatten().tolist()


def test_prefix_is_read_in_both_directions(model):
    batch = make_batch("i2v")
    last_code_of_prefix = batch.prefix_length - 2
    assert changed_positions(model, batch, last_code_of_prefix) == list(range(batch.ids.shape[1]))


@pytest.mark.parametrize("offset", [1, 7, 16])
def test_output_is_causal(model, offset):
    batch = make_batch("i2v")
    position = batch.prefix_length + offset
    assert changed_positions(model, batch, position) == list(range(position, batch.ids.shape[1]))


def test_loss_lies_on_the_output_only(model):
    batch = make_batch("t2av")
    output = model(batch)
    assert output.nll_BO.shape == batch.outputs.shape
    torch.testing.assert_close(output.loss, output.nll_BO.mean())
    assert output.nll_BO[output.kinds_BO == VISUAL].mean() > output.nll_BO[output.kinds_BO == SPECIAL].mean()


def test_loss_is_that_of_the_whole_vocabulary_restricted_to_what_a_position_takes():
    """The naive formula: all logits at once, −inf where a token cannot stand."""
    torch.manual_seed(0)
    model = ReelLm(tiny_config(visual_factors=[4096], initializer_range=0.3)).eval()
    samples = [token_sample(i) for i in range(2)]
    samples = [dataclasses.replace(s, arrays={**s.arrays, "video": s.arrays["video"] % 4096}) for s in samples]
    layout = Layout(model.vocabulary)
    batch = to_tensors(collate([layout.build("t2av", sample) for sample in samples]), "cpu")
    weight = torch.cat([model.backbone.embed_tokens.weight, model.visual.tables[0].weight, model.audio.weight])
    logits = model.hidden(batch)[:, batch.prefix_length - 1 : -1] @ weight.T
    ids = torch.arange(model.vocabulary.size)
    group = model.kinds(ids) + (ids - model.vocabulary.audio_offset).clamp(min=0) // 1024 * 10
    allowed = group == group[batch.outputs][..., None]
    naive = logits.masked_fill(~allowed, -torch.inf).log_softmax(-1).gather(-1, batch.outputs[..., None]).squeeze(-1)
    torch.testing.assert_close(model(batch).nll_BO, -naive, rtol=1e-4, atol=1e-4)


def test_padding_changes_nothing(model):
    together = model(make_batch("t2av", count=2, lengths=(6, 2))).nll_BO
    alone = model(to_tensors(collate([Layout().build("t2av", token_sample(1, text_length=2))]), "cpu")).nll_BO
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-4)


def test_gradient_reaches_every_parameter(model):
    batch = make_batch("av_continue")
    model.zero_grad()
    model(batch).loss.backward()
    silent = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert silent == []
    model.zero_grad()


@pytest.mark.parametrize("task", ["t2av", "i2v", "v2a", "av_continue", "t2i"])
def test_cached_decoding_equals_the_slow_one(model, task):
    plan = blank(model, make_batch(task, lengths=(6, 2)))
    fast = decode(model, plan, Sampler(GREEDY, torch.Generator()))
    slow = decode_without_cache(model, plan, Sampler(GREEDY, torch.Generator()))
    assert torch.equal(fast, slow)


def test_sampling_is_a_function_of_the_seed(model):
    plan = blank(model, make_batch("t2av"))
    settings = SamplingSettings(temperature=0.9, top_k=50, top_p=0.95, guidance=1.0)
    first, second, other = (
        decode(model, plan, Sampler(settings, torch.Generator().manual_seed(seed))) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_guidance_gives_both_rows_of_a_pair_the_same_codes(model):
    samples = [token_sample(i) for i in range(2)]
    empty = model.empty_text.numpy()
    rows = [Layout().build("t2v", sample) for sample in samples]
    rows += [Layout().build("t2v", sample, text=empty) for sample in samples]
    plan = blank(model, to_tensors(collate(rows), "cpu"))
    sampler = Sampler(SamplingSettings(temperature=0, guidance=3.0), torch.Generator())
    ids = decode(model, plan, sampler)
    assert torch.equal(ids[:2], ids[2:])
    assert torch.equal(ids, decode_without_cache(model, plan, sampler))


def test_overfits_eight_samples_and_greedy_decoding_reproduces_them():
    """A few million parameters besides the embeddings; 0.05 nat per token is the mark."""
    torch.manual_seed(0)
    config = tiny_config(hidden_size=256, intermediate_size=704, num_hidden_layers=3, num_attention_heads=4)
    model = ReelLm(config)
    assert sum(parameter.numel() for parameter in model.backbone.layers.parameters()) > 2_000_000
    batch = make_batch("t2av", count=8, lengths=(3, 5), grid=(2, 2, 3), audio=(2, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-3, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / 20) * (1 - step / 70))
    for _ in range(60):
        loss = model(batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()
    assert model(batch).nll_BO.mean() < 0.05
    assert model(batch).nll_BO.max() < 0.69  # every code is likelier than all others together
    ids = decode(model, blank(model, batch), Sampler(GREEDY, torch.Generator()))
    assert torch.equal(ids, batch.outputs)


def test_save_and_load_give_the_same_model(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = ReelLm.from_pretrained(tmp_path, use_safetensors=True).eval()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    batch = make_batch("t2av")
    assert torch.equal(loaded(batch).nll_BO, model(batch).nll_BO)


def test_too_large_a_grid_is_refused(model):
    batch = to_tensors(collate([Layout().build("t2v", token_sample(0, grid=(2, 9, 4)))]), "cpu")
    with pytest.raises(ValueError, match=r"index 8.*max_grid_side is 8"):
        model(batch)


def test_noise_changes_what_is_shown_of_the_output_and_not_what_is_predicted(model):
    clean = make_batch("t2av", count=4)
    first, last = model.vocabulary.visual_offset, model.vocabulary.visual_offset + model.vocabulary.visual_size
    noisy, again = (clean.with_noise(0.9, first, last, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(noisy.outputs, clean.outputs) and torch.equal(noisy.ids, again.ids)
    changed = noisy.ids != clean.ids
    visual = model.kinds(clean.ids) == VISUAL
    visual[:, : clean.prefix_length] = False
    assert not changed[~visual].any() and (model.kinds(noisy.ids) == model.kinds(clean.ids)).all()
    shares = changed.sum(dim=1) / visual.sum(dim=1)
    assert 0 <= shares.min() < shares.max() < 1
    assert torch.equal(clean.with_noise(0.0, first, last, torch.Generator()).ids, clean.ids)
    assert model(noisy).nll_BO.shape == model(clean).nll_BO.shape


def test_noise_beyond_a_share_is_refused():
    with pytest.raises(ValueError, match=r"noise .*1\.5"):
        LmSettings(data="tokens", output="model", noise=1.5)
