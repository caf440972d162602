"""`python -m benchmarks._droid_results RUNS DOCS`: docs/results.md and its pictures, from the finished runs.

RUNS holds the folders that the commands of the page make, each model with its `evaluation.json`. Writes
DOCS/results.md, DOCS/results-curves.svg and DOCS/results-samples.jpg.
"""

import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import torch
import yaml
from PIL import Image

from media.encode import jpeg_bytes
from training.enlarged_codes import bicubic
from training.evaluate_settings import greedy, likeliest
from training.generation import Generator
from training.lm import ReelLm
from training.model_folder import Tokenizers, load_model
from training.shards import ShardDataset
from training.super_resolution import SuperResolution
from training.trainer_loop import read_curve

matplotlib.use("svg")
from matplotlib import pyplot as plt

PAGE = """# A whole run on a small data set

Real clips of robot arms (DROID, CC BY 4.0) with a sentence each: 677 to learn from, 84 to judge by. Models
small enough for an hour of one CPU core. What it shows is that the machinery learns, and what from; it says nothing of
what the models would do with more data. The tokenizer is `magvit2-tiny` (fingerprint `{tokenizer}…`), itself trained
on the 677 clips and others, never on those that are judged. Settings were tried and kept by the figures of the clips
that are judged, which are therefore a little kinder than they would be on others.

```
reelmill curate --input DATA/captions.csv --output runs/curated --manifest.path_column file \\
    --manifest.caption_column caption_human --shots.detector threshold --clips.min_duration_s 0.5 \\
    --clips.max_duration_s null --clips.trim_frames 0 --dedup.near false --watermark.enabled false \\
    --clips.cut.fps 8 --clips.cut.preset ultrafast --clips.cut.crf 12
reelmill tokenize --input runs/curated --output runs/tokens --video.resolutions '[64x64]' --video.stride 8 \\
    --audio.tokenizer null --split.column inner_split
reelmill train lm --config lm-droid --data runs/tokens --output runs/lm
reelmill evaluate --model runs/lm --data runs/tokens --batch_size 16 --generate {futures} --draws {draws} \\
    --tasks '[t2v, continue]'
for low in 32x32 64x64; do
    reelmill tokenize --input runs/curated --output runs/tokens-$low --video.resolutions "[$low, 128x128]" \\
        --audio.tokenizer null --split.column inner_split
    reelmill train super-resolution --config super-resolution-droid --data runs/tokens-$low --output runs/from-$low
    reelmill evaluate --model runs/from-$low --data runs/tokens-$low --batch_size 4 --limit 84 --generate {uppers} \\
        --upsampling.steps {rounds}
done
python -m benchmarks._droid_results runs docs
```

A window is 17 frames at 8 fps: 5×4×4 codes at 32x32, 5×8×8 at 64x64, 5×16×16 at 128x128; those for the language model
begin every 8 frames. Clips shorter than that are left out, which leaves {train_clips} clips ({train_windows} windows)
to learn from and {val_clips} ({val_windows}) to judge by.

## The language model

{lm_steps} steps of 16 windows. Two departures from the published model, each a setting: continuations read the codes of
a whole window in which the last given picture stands (`model.pad_given`, the frame prediction of MAGVIT), and from step
{pixels_from} on the decoded pictures of the likeliest future count (`pixel_weight`).

Nats per code, all five latent frames, from the caption alone. The baselines are fitted on the train split: counts on
every other window, the weights of their mixtures on the rest.

| | nats per code |
|---|---|
| uniform | {uniform:.2f} |
| unigram | {unigram:.2f} |
| previous frame, smoothed | {previous:.2f} |
| language model | {lm:.2f} |

The last 8 frames of a window from its first 9 (3 latent frames) and its caption, beside the last given frame standing
still; all decoded from codes and held against the decoded truth, {futures} windows. The model's are the future by the
likeliest code each time, and the mean picture of {draws} futures drawn at temperature {temperature}: the guess with the
least squared error to be expected, and not itself a future.

| | PSNR dB | SSIM |
|---|---|---|
| last frame stands | {copy_psnr:.2f} | {copy_ssim:.3f} |
| language model, the likeliest codes | {future_psnr:.2f} | {future_ssim:.3f} |
| language model, the mean of {draws} | {mean_psnr:.2f} | {mean_ssim:.3f} |

The likeliest codes are the better ones in {better:.0%} of the windows, the mean in {mean_better:.0%}.

Its own caption gives a clip, all its windows together, the lower loss than the caption of another clip in {share:.1%}
of {pairs:,} pairs: each of {clips} clips with every other whose caption says something else. The binomial p of that is
{binomial_p:.1g}, but pairs share clips; of 10,000 random assignments of the captions to the clips {p:.2%} do as well.

## Super-resolution

{sr_steps} steps of 4 windows, once from 32x32 to 128x128 and once from 64x64. Two departures from the published model,
each a setting: the low resolution is given as the codes of the enlarged picture (`model.low_grid: same`), and the
decoded picture counts in training (`pixel_weight`). Nats per hidden code of 128x128, the same codes hidden in each
column.

| from | the text alone | the text and the low resolution of another clip | the text and the low resolution |
|---|---|---|---|
{nats_rows}

Pixels of {uppers} windows against the decoded codes of 128x128, by the likeliest codes in {round_words}:

| from | bicubic, PSNR dB | super-resolution | bicubic, SSIM | super-resolution |
|---|---|---|---|---|
{pixel_rows}

{upper}

## Curves and samples

![Nats per token by step](results-curves.svg)

For each of three held-back clips, from above: the decoded 64x64 codes, the continuation of its first nine frames, the
decoded 32x32 codes, what the upscaler makes of these, the decoded 128x128 codes. Columns are frames {shown}.

![Samples](results-samples.jpg)
"""

LOWS = ("32x32", "64x64")
MODELS = ("lm", *(f"from-{low}" for low in LOWS))
TITLES = {"lm": "language model", "from-32x32": "super-resolution, 32x32 to 128x128"}
CLIPS, SHOWN = 3, (0, 4, 8, 10, 12, 14, 16)
CPU = torch.device("cpu")
CONFIG = yaml.safe_load(Path("training/configs/lm-droid.yaml").read_text())


def write_page(runs: Path, path: Path) -> None:
    """The page with the figures of both evaluations."""
    lm, *upscalers = (json.loads((runs / name / "evaluation.json").read_text()) for name in MODELS)
    steps = [read_curve(runs / name)[-1]["step"] for name in MODELS]
    future, masked = lm["future"], [each["masked"] for each in upscalers]
    pixels = dict(zip(LOWS, (each["pixels"] for each in upscalers), strict=True))
    rounds = upscalers[0]["protocol"]["upsampling"]["steps"]
    counts: dict[str, int] = {}
    for split in ("train", "val"):
        clips = [sample.meta["clip_id"] for sample in ShardDataset(runs / "tokens", split)]
        counts |= {f"{split}_windows": len(clips), f"{split}_clips": len(set(clips))}
    text = PAGE.format(
        **counts, lm_steps=steps[0], pixels_from=round(CONFIG["pixel_from"] * steps[0]), sr_steps=steps[1],
        uniform=lm["baselines"]["uniform_nats"], unigram=lm["baselines"]["unigram_nats"],
        previous=lm["baselines"]["previous_frame_nats"], lm=lm["tokens"]["t2v/visual"]["nats"],
        futures=future["samples"], copy_psnr=future["copy_psnr_db"], copy_ssim=future["copy_ssim"],
        future_psnr=future["psnr_db"], future_ssim=future["ssim"], better=future["better_share"],
        draws=lm["protocol"]["draws"], temperature=lm["protocol"]["drawing"]["temperature"],
        mean_psnr=future["mean_psnr_db"], mean_ssim=future["mean_ssim"], mean_better=future["mean_better_share"],
        rounds=rounds, round_words="one round" if rounds == 1 else f"{rounds} rounds",
        upper=" ".join(
            f"From {low} {'the upscaler' if each['psnr_db'] > each['bicubic_psnr_db'] else 'bicubic'} is ahead."
            for low, each in pixels.items()
        ),
        tokenizer=lm["tokenizers"]["video"][:12],
        **{name: lm["captions"][name] for name in ("clips", "pairs", "binomial_p", "p")},
        share=lm["captions"]["right_share"],
        nats_rows="\n".join(
            f"| {low} | {each['nats_without_low']:.2f} | {each['nats_with_another_low']:.2f} | {each['nats']:.2f} |"
            for low, each in zip(LOWS, masked, strict=True)
        ),
        pixel_rows="\n".join(
            f"| {low} | {each['bicubic_psnr_db']:.2f} | {each['psnr_db']:.2f} | {each['bicubic_ssim']:.3f} "
            f"| {each['ssim']:.3f} |"
            for low, each in pixels.items()
        ),
        uppers=pixels[LOWS[0]]["samples"], shown=", ".join(map(str, SHOWN)),
    )  # fmt: skip
    path.write_text(text)


def draw_curves(runs: Path, path: Path) -> None:
    """Nats per token by step: train (averaged), val, and the baselines as lines."""
    figures = {name: json.loads((runs / name / "evaluation.json").read_text()) for name in MODELS[:2]}
    lines = {
        "lm": {
            "unigram": figures["lm"]["baselines"]["unigram_nats"],
            "previous frame": figures["lm"]["baselines"]["previous_frame_nats"],
        },
        MODELS[1]: {"without low resolution": figures[MODELS[1]]["masked"]["nats_without_low"]},
    }
    plt.rcParams.update({"svg.hashsalt": "reelmill", "font.size": 9})
    drawing, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for axis, name in zip(axes, lines, strict=True):
        curve = read_curve(runs / name)
        train = [(point["step"], _nats(point)) for point in curve if "loss" in point]
        val = [(point["step"], point["val_loss"]) for point in curve if "val_loss" in point]
        axis.plot(*zip(*train, strict=True), linewidth=0.6, label="train")
        axis.plot(*zip(*val, strict=True), marker=".", label="val")
        for number, (label, nats) in enumerate(lines[name].items()):
            axis.axhline(nats, color="black", linestyle=("--", ":")[number], linewidth=0.8, label=label)
        axis.set(xlabel="step", ylabel="nats per token", title=TITLES[name])
        axis.legend(frameon=False)
    drawing.savefig(path, metadata={"Date": None})


def _nats(point: dict[str, float]) -> float:
    """Those of the task of a step, where they are told apart from what else counted."""
    return next((value for key, value in point.items() if key.startswith("loss_")), point["loss"])


def draw_samples(runs: Path, path: Path) -> None:
    """By clip, the frames of the truth, of the continuation of its first nine frames, and of the upscaler."""
    model, folder = load_model(ReelLm, runs / "lm", CPU)
    upscaler, _ = load_model(SuperResolution, runs / MODELS[1], CPU)
    generator = Generator(model, Tokenizers(model.config.tokenizers, folder, CPU), CPU, upscaler)
    random = torch.Generator().manual_seed(0)
    rounds = json.loads((runs / MODELS[1] / "evaluation.json").read_text())["protocol"]["upsampling"]["steps"]
    small, large = (ShardDataset(runs / f"tokens-{low}", "val") for low in LOWS)
    high = next(name for name in small[0].arrays if name.startswith("video_"))
    rows = []
    for index in itertools.islice(range(0, len(small), max(1, len(small) // CLIPS)), CLIPS):
        low, sample = small[index], large[index]
        assert low.key == sample.key
        done = generator.complete("continue", [sample], greedy(), random, given=3)[0]
        video, text = low.arrays["video"], low.arrays["text"]
        codes = generator.upscaled(video[None], text, replace(likeliest(), steps=rounds), random)[0]
        whole = generator.frames(low.arrays[high])
        pictures = [generator.frames(each) for each in (sample.arrays["video"], done.arrays["video"], video)]
        columns = [*(bicubic(each, *whole.shape[1:3]) for each in pictures), generator.frames(codes), whole]
        rows += [np.concatenate([each[frame] for frame in SHOWN], axis=1) for each in columns]
    sheet = np.concatenate(rows)
    smaller = Image.fromarray(sheet).resize(
        (sheet.shape[1] * 3 // 4, sheet.shape[0] * 3 // 4), Image.Resampling.LANCZOS
    )
    path.write_bytes(jpeg_bytes(np.asarray(smaller), quality=75))


if __name__ == "__main__":
    torch.set_num_threads(1)
    write_page(Path(sys.argv[1]), Path(sys.argv[2]) / "results.md")
    draw_curves(Path(sys.argv[1]), Path(sys.argv[2]) / "results-curves.svg")
    draw_samples(Path(sys.argv[1]), Path(sys.argv[2]) / "results-samples.jpg")
