"""CPU seconds of metrics beside the libraries' own code, as ratios of one run.

    python benchmarks/metrics.py [--dim 2048] [--samples 3200] [--only distances]
        [--pictures 64] [--large 4] [--repeats 3] [--only scorers packages sets groups alone]

Distances run on random features. Scorers run on pictures of 512 pixels through the shipped tiny
networks, or small random ones in the hub's format, so that what is compared is the code around the
network: resizing, batching, text; those that have a package of their own on networks of published
sizes too, which tell what is left of that. The other side is the library's own loop, a picture and
its prompt at a time, in batches where it has them (torch-fidelity, vendi-score, clip-mmd); where
there is none, ours stands alone. Loading and decoding are left out on both sides. CPU seconds of
the process that computes, one thread, passes of both sides in turns, medians; other work on the
machine moves them less than wall time. Not compared: the packages vbench and hpsv3.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import open_clip
import torch
from metric_alone import alone_rows
from metric_groups import group_rows
from metric_packages import package_rows
from metric_sets import set_rows
from PIL import Image
from side_by_side import HEAD, Pair, beside, loop, pictures, timed
from torch.nn.functional import normalize

from distillbench.api.metric import Samples
from distillbench.api.registry import build_metric
from distillbench.score import distances
from distillbench.score.preprocess import IMAGENET_MEAN, IMAGENET_STD

PARTS = ("scorers", "packages", "sets", "groups", "alone", "distances")


def cpu_seconds(what: Callable[[], object]) -> float:
    """Of one run."""
    began = time.process_time()
    what()
    return time.process_time() - began


def line(name: str, ours: float, theirs: float, library: str) -> None:
    """One row of the table."""
    print(f"| {name} | {ours:.2f} | {theirs:.2f} | {theirs / ours:.2f} | {library} |", flush=True)


def set_distances(dim: int, samples: int) -> None:
    """Frechet and kernel distance against torch-fidelity, with the values' difference."""
    from torch_fidelity import metric_fid, metric_kid

    rng = torch.Generator().manual_seed(0)
    scale = torch.exp(-torch.arange(dim, dtype=torch.float64) / 300)
    one, two = (torch.randn(samples, dim, generator=rng, dtype=torch.float64) * scale + shift
                for shift in (0.0, 0.01))  # fmt: skip
    values: dict[str, float] = {}

    def theirs() -> None:
        stats = [metric_fid.fid_features_to_statistics(x) for x in (one, two)]
        found = metric_fid.fid_statistics_to_metric(*stats, verbose=False)
        values["theirs"] = found[metric_fid.KEY_METRIC_FID]

    def ours() -> None:
        values["ours"] = distances.frechet(one, two)

    line(f"Frechet, n {samples}, d {dim}", cpu_seconds(ours), cpu_seconds(theirs), "torch-fidelity")
    print(f"  relative difference {abs(values['ours'] / values['theirs'] - 1):.1e}")

    def kid() -> None:
        sums = distances.pair_sums(one, two, distances.cubic, 10)
        values["ours"] = distances.discrepancy(sums, unbiased=True)
        distances.discrepancy_without(sums, unbiased=True)

    def kid_theirs() -> None:
        found = metric_kid.kid_features_to_metric(
            one, two, kid_subsets=1, kid_subset_size=samples, verbose=False
        )
        values["theirs"] = found[metric_kid.KEY_METRIC_KID_MEAN]

    name = "KID with its jackknife against one subset of all"
    line(name, cpu_seconds(kid), cpu_seconds(kid_theirs), "torch-fidelity")
    print(f"  difference {abs(values['ours'] - values['theirs']):.1e}")


def open_clips() -> Iterator[Pair]:
    """CLIP score and AeS against open_clip's own transform, tokenizer and network."""
    seen = open_clip.image_transform(32, is_train=False, resize_mode="shortest")
    for name in ("clip", "aes"):
        metric: Any = build_metric(name, {})
        metric.load()
        net, words = metric._clip.net, metric._clip._tokens

        def theirs(picture: Image.Image, prompt: str, net: Any = net, words: Any = words,
                   name: str = name) -> None:  # fmt: skip
            unit = normalize(net.encode_image(seen(picture)[None]), dim=-1)
            if name == "clip":
                unit @ normalize(net.encode_text(words([prompt])), dim=-1).T

        def ours(samples: Samples, metric: Any = metric) -> None:
            metric._clip._texts.clear()
            metric.score(samples)

        yield Pair(f"`{name}`", "tiny", timed(ours), loop(theirs), "open_clip")


def hubs(folder: Path) -> Iterator[Pair]:
    """PickScore and DINOv2 features against transformers' processors and networks."""
    from transformers import CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    from distillbench.score.towers import ClipPair, DinoNet

    small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
             "num_attention_heads": 4}  # fmt: skip
    text = small | {"eos_token_id": 49407, "bos_token_id": 49406}
    net = CLIPModel(CLIPConfig(text_config=text, vision_config=small, projection_dim=32))
    net.save_pretrained(folder / "pick")
    pick, seen = ClipPair(folder / "pick" / "model.safetensors"), CLIPImageProcessorPil()

    def scored(picture: Image.Image, prompt: str) -> float:
        words = pick.tokens([prompt], padding=True, truncation=True, max_length=77,
                            return_tensors="pt")  # fmt: skip
        return float(pick.net(**words, **seen(picture, return_tensors="pt")).logits_per_image)

    def ours(samples: Samples) -> None:
        pick.scores(samples)

    yield Pair("`pick_score`", "small", timed(ours), loop(scored), "transformers")
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    Dinov2Model(Dinov2Config(**sizes, image_size=224)).save_pretrained(folder / "dino")
    dino = DinoNet(folder / "dino" / "model.safetensors")
    fitted = CLIPImageProcessorPil(size={"height": 224, "width": 224}, do_center_crop=False,
                                   image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD)  # fmt: skip

    def embedded(picture: Image.Image, prompt: str) -> object:
        return dino.net(**fitted(picture, return_tensors="pt")).pooler_output

    def features(samples: Samples) -> None:
        dino.features(samples)

    name = "`fd_dinov2`, features"
    yield Pair(name, "small", timed(features), loop(embedded), "transformers")


def scorer_rows(count: int, repeats: int) -> None:
    """The rows of the libraries of the main environment."""
    with TemporaryDirectory() as folder:
        for pair in (*open_clips(), *hubs(Path(folder))):
            beside(pair, pictures(count), repeats)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--samples", type=int, default=3200)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--large", type=int, default=4, help="pictures for published sizes")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, Callable[[], None]] = {
        "scorers": lambda: scorer_rows(options.pictures, options.repeats),
        "packages": lambda: package_rows(options.pictures, options.large, options.repeats),
        "sets": lambda: set_rows(options.large, options.repeats),
        "groups": lambda: group_rows(options.pictures, options.large, options.repeats),
        "alone": lambda: alone_rows(options.large, options.repeats),
    }
    asked = [make for name, make in rows.items() if name in options.only]
    if asked:
        print(HEAD)
    for make in asked:
        make()
    if "distances" in options.only:
        print("| what | ours, CPU s | theirs, CPU s | theirs / ours | library |")
        print("|---|---:|---:|---:|---|")
        set_distances(options.dim, options.samples)


if __name__ == "__main__":
    main()
