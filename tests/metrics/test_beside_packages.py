"""FID to real pictures beside clean-fid, LPIPS beside the package lpips.

Neither belongs to the project's environments, so that these run where someone has them:
    pip install --no-deps clean-fid lpips scipy requests tqdm
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from distillbench.api.metric import Samples
from distillbench.api.registry import build_metric
from distillbench.score.evaluate import evaluate
from distillbench.score.preprocess import clean_resize
from distillbench.score.towers import perceptual


class Rounded(nn.Module):
    """Convolutions of other batches differ in their last digits, which are left off."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * 65536).round() / 65536


class Net(nn.Module):
    """In the place of the Inception's export: `layers` of pixels (n, 3, 299, 299) to 6 features."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 11, stride=9), nn.Tanh(), nn.Conv2d(4, 6, 5, stride=3), nn.Tanh(),
            nn.AdaptiveAvgPool2d(1), Rounded(),
        )  # fmt: skip

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.layers(pixels)  # type: ignore[no-any-return]


def saved(folder: Path, n: int, seed: int, shape: tuple[int, int]) -> torch.Tensor:
    """n pictures as PNG, the first three of them of other kinds that are read as colours."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (n, 6, 5, 3), dtype=np.uint8)
    large = [Image.fromarray(p).resize(shape[::-1], Image.Resampling.BICUBIC) for p in pixels]
    for number, picture in enumerate(large):
        mode = {0: "L", 1: "RGBA", 2: "P"}.get(number, "RGB")
        picture.convert(mode).save(folder / f"{number:03d}.png")
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in large]))


def test_fid_from_files_to_number_is_clean_fids(tmp_path: Path) -> None:
    fid: Any = pytest.importorskip("cleanfid.fid")
    torch.manual_seed(0)
    net = Net().eval()
    file = tmp_path / "net.pt"
    torch.jit.script(net).save(str(file))  # type: ignore[no-untyped-call]
    saved(tmp_path / "real", 24, 1, (70, 90))
    data = saved(tmp_path / "samples", 20, 2, (50, 40))
    for number, picture in enumerate(data.numpy()):  # all of them in colour
        Image.fromarray(picture).save(tmp_path / "samples" / f"{number:03d}.png")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    metric = build_metric("fid", {
        "weights": f"{file}#sha256={digest}", "reference": str(tmp_path / "real"),
        "allow_small_n": True,
    })  # fmt: skip
    samples = Samples(data, [f"p{i}" for i in range(20)], [""] * 20, 0)
    ours = evaluate(metric, samples).aggregate[""]

    def seen(pixels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return net((pixels - 128) / 128).flatten(1).double()

    theirs = fid.compute_fid(
        str(tmp_path / "samples"), str(tmp_path / "real"), mode="clean", num_workers=0,
        device=torch.device("cpu"), custom_feat_extractor=seen, verbose=False,
        use_dataparallel=False,
    )  # fmt: skip
    print("fid", ours, theirs, abs(ours / theirs - 1))
    assert ours == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("shape", [(64, 64), (30, 70), (400, 310), (1, 1), (299, 299)])
def test_clean_resizing_is_clean_fids(shape: tuple[int, int]) -> None:
    resize: Any = pytest.importorskip("cleanfid.resize")
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    theirs = resize.build_resizer("clean")(picture)
    ours = clean_resize(torch.from_numpy(picture)[None], 299)[0].permute(1, 2, 0).numpy()
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("shape", [(64, 64), (33, 80)])
def test_lpips_is_the_packages(shape: tuple[int, int], tmp_path: Path) -> None:
    """Its own trunk with random weights, and the trained linear layers that it ships."""
    package: Any = pytest.importorskip("lpips")
    torch.manual_seed(0)
    net = package.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    slices = {name.split(".", 1)[1]: value for name, value in net.net.state_dict().items()}
    file = tmp_path / "vgg16-397923af.pth"
    torch.save({f"features.{name}": value for name, value in slices.items()}, file)
    rng = torch.Generator().manual_seed(1)
    one, two = torch.randint(0, 256, (2, 3, *shape, 3), generator=rng).to(torch.uint8)
    pixels = [package.im2tensor(p.numpy()) for p in (*one, *two)]
    with torch.no_grad():
        theirs = net(torch.cat(pixels[:3]), torch.cat(pixels[3:])).flatten()
    ours = perceptual(file)(one, two)
    print("lpips", ours, float((ours - theirs).abs().max()))
    assert float(theirs.min()) > 1e-3
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-6)
