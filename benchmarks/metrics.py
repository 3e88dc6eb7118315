"""CPU seconds of set distances and scorers beside the libraries' own code, as ratios of one run.

    python benchmarks/metrics.py [--dim 2048] [--samples 3200] [--pictures 64]

Distances run on random features, PickScore's path on a small random CLIP in the hub's format, so
that what is compared is the code around the network. CPU seconds of this process, one thread; other
work on the machine moves them less than wall time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image

from distillbench.api.metric import Samples
from distillbench.score import distances


def cpu_seconds(what: Callable[[], object], repeats: int = 1) -> float:
    """The least of `repeats` runs."""
    found = []
    for _ in range(repeats):
        began = time.process_time()
        what()
        found.append(time.process_time() - began)
    return min(found)


def line(name: str, ours: float, theirs: float, library: str) -> None:
    """One row of the table."""
    print(f"| {name} | {ours:.2f} | {theirs:.2f} | {theirs / ours:.2f} | {library} |", flush=True)


def sets(dim: int, samples: int) -> None:
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


def pick(pictures: int) -> None:
    """PickScore's path against the hub's example loop: one picture and prompt at a time."""
    from transformers import CLIPConfig, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    from distillbench.score.towers import ClipPair

    rng = torch.Generator().manual_seed(1)
    data = torch.randint(0, 256, (pictures, 512, 512, 3), generator=rng).to(torch.uint8)
    samples = Samples(data, [f"picture {i}" for i in range(pictures)], [""] * pictures, 0)
    with TemporaryDirectory() as folder:
        small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
                 "num_attention_heads": 4}  # fmt: skip
        text = small | {"eos_token_id": 49407, "bos_token_id": 49406}
        net = CLIPModel(CLIPConfig(text_config=text, vision_config=small, projection_dim=32))
        net.save_pretrained(folder)
        ours = ClipPair(Path(folder) / "model.safetensors")
    processor = CLIPImageProcessorPil()

    def loop() -> None:
        with torch.no_grad():
            for picture, prompt in zip(data.numpy(), samples.prompts, strict=True):
                seen = processor(Image.fromarray(picture), return_tensors="pt")
                words = ours.tokens([prompt], padding=True, truncation=True, max_length=77,
                                    return_tensors="pt")  # fmt: skip
                float(ours.net(**words, **seen).logits_per_image)

    name = f"PickScore, {pictures} pictures of 512 px, small network"
    line(name, cpu_seconds(lambda: ours.scores(samples)), cpu_seconds(loop), "transformers, a loop")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--samples", type=int, default=3200)
    parser.add_argument("--pictures", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| what | ours, CPU s | theirs, CPU s | theirs / ours | library |")
    print("|---|---:|---:|---:|---|")
    sets(options.dim, options.samples)
    pick(options.pictures)


if __name__ == "__main__":
    main()
