"""What a grid of samples shows across its columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from distillbench.analysis.aggregate import Results
from distillbench.errors import ArtifactError
from distillbench.experiment.outputs import FigureConfig
from distillbench.report.grid import GAP, LEFT, TILE, TOP, draw_grid
from distillbench.report.samples import read_trajectory
from distillbench.report.strips import comparable, strips_of, without_term
from distillbench.report.tiles import TileGrid, laid_out


@pytest.fixture
def steps(world: Any) -> Any:
    """Two methods at 1, 2 and 4 evaluations, one of them without the middle one."""
    for nfe in (4, 1, 2):
        world.row("LCM", 25.0, 3.0, nfe=nfe)
        if nfe != 2:
            world.row("TDM", 26.0, 3.0, nfe=nfe)
    return world


def grid_of(world: Any, across: str, *, most: int = 8, prompt: int = 0) -> TileGrid:
    results = Results(world.plan, world.store)
    rows = results.select({}, [across])
    strips = comparable(strips_of(results, rows, {"sd": "SD"}, across=across))
    return laid_out(across, strips, rows, most=most, prompt=prompt)


def places(grid: TileGrid) -> dict[str, list[Any]]:
    """Label of a line -> the NFE and position of each tile, or its text."""
    return {
        label: [tile if isinstance(tile, str) else (tile[0].cell.nfe, tile[1]) for tile in tiles]
        for label, tiles in grid.lines
    }


def test_over_a_field_rows_that_differ_in_it_alone_share_a_line(steps: Any) -> None:
    grid = grid_of(steps, "nfe")
    assert grid.heads == ("NFE 1", "NFE 2", "NFE 4")
    assert places(grid) == {"LCM": [(1, 0), (2, 0), (4, 0)], "TDM": [(1, 0), "", (4, 0)]}
    assert grid.corner == grid_of(steps, "prompts").heads[0]


def test_another_prompt_is_shown_by_its_number(steps: Any) -> None:
    grid = grid_of(steps, "nfe", prompt=3)
    assert {tile[1] for line in places(grid).values() for tile in line if tile} == {3}
    last = grid_of(steps, "nfe", prompt=99)
    assert last.corner == grid_of(steps, "nfe", prompt=7).corner


def test_over_noises_all_samples_are_of_one_prompt(world: Any) -> None:
    """Eight samples of two prompts in turn: the second has the odd places."""
    world.distinct = 2
    world.row("LCM", 25.0, 3.0)
    grid = grid_of(world, "noise", prompt=1, most=3)
    assert grid.heads == ("noise 1", "noise 2", "noise 3")
    assert places(grid) == {"LCM, NFE 4": [(4, 1), (4, 3), (4, 5)]}


def test_snapshots_stand_in_the_columns_of_updates(world: Any) -> None:
    for updates in (50, 100):
        world.row("TDM", 30.0, 5.0, updates=updates, final=updates == 100)
    grid = grid_of(world, "updates")
    assert grid.heads == ("updates 50", "updates 100")
    assert list(places(grid)) == ["TDM, NFE 4"]


def test_a_varied_value_is_left_out_of_the_lines_name(world: Any) -> None:
    for gamma in (0.3, 0.0):
        world.row(f"TCD (gamma={gamma}, eta=1)", 30.0, 5.0, varied={"params.gamma": gamma})
    grid = grid_of(world, "params.gamma")
    assert grid.heads == ("gamma 0.0", "gamma 0.3")
    assert list(places(grid)) == ["TCD (eta=1), NFE 4"]
    assert without_term("TCD (gamma=0.3)", "gamma") == "TCD"


def test_rows_of_one_name_and_value_stand_one_below_the_other(world: Any) -> None:
    world.row("LCM", 25.0, 3.0)
    world.row("LCM", 26.0, 3.0)
    assert [label for label, _ in grid_of(world, "nfe").lines] == ["LCM", "LCM"]


def test_what_is_not_sampled_says_why_in_its_column(steps: Any) -> None:
    steps.row("TDM", 26.0, 3.0, nfe=2, done=False)
    tiles = places(grid_of(steps, "nfe"))["TDM"]
    assert [isinstance(tile, str) for tile in tiles] == [False, True, False]
    assert tiles[1]


@pytest.mark.parametrize("across", ["prompts", "noise", "nfe"])
def test_a_grid_is_drawn_the_same_twice(
    steps: Any, across: str, make_experiment: Any, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0)
    for cell in steps.cells:
        images = pixels.integers(0, 256, (steps.prompts, 8, 8, 3), dtype=np.uint8)
        folder = steps.store.path("sample", cell.sample)
        save_file({"samples": images}, folder / "samples-00000.safetensors")
    config = FigureConfig(name="g", across=across, samples=3)
    results = Results(steps.plan, steps.store)
    drawn = [
        draw_grid(config, make_experiment(), results, tmp_path / name)[0].read_bytes()
        for name in ("a", "b")
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0][:4] == b"\x89PNG"


def test_of_a_clip_three_frames_are_drawn(world: Any, make_experiment: Any, tmp_path: Path) -> None:
    world.row("TDM", 25.0, 3.0)
    clips = np.zeros((8, 5, 8, 8, 3), np.uint8)
    for frame, channel in ((0, 0), (2, 1), (4, 2)):
        clips[:, frame, ..., channel] = 255
    folder = world.store.path("sample", world.cells[0].sample)
    save_file({"samples": clips}, folder / "samples-00000.safetensors")
    config = FigureConfig(name="g", samples=5)
    results = Results(world.plan, world.store)
    (path,) = draw_grid(config, make_experiment(), results, tmp_path)
    drawn = np.asarray(Image.open(path).convert("RGB"))
    line = drawn[TOP + TILE // 2, LEFT:]
    first = [tuple(line[TILE // 2 + TILE * n]) for n in range(3)]
    assert first == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert tuple(line[4 * (3 * TILE + GAP) + TILE // 2]) == (255, 0, 0)


def test_the_way_of_a_sample_has_a_column_an_evaluation(steps: Any) -> None:
    grid = grid_of(steps, "evaluations", prompt=2, most=3)
    assert grid.heads == ("evaluation 1", "evaluation 2", "evaluation 3")
    lines = {
        label: [tile if isinstance(tile, str) else (tile.place, tile.evaluation) for tile in tiles]
        for label, tiles in grid.lines
    }
    assert lines["LCM, NFE 1"] == [(2, 0), "", ""]
    assert lines["LCM, NFE 2"] == [(2, 0), (2, 1), ""]
    assert lines["TDM, NFE 4"] == [(2, 0), (2, 1), (2, 2)]


def test_a_cloud_has_all_noises_of_its_prompt(world: Any) -> None:
    world.distinct = 2
    world.row("LCM", 25.0, 3.0)
    results = Results(world.plan, world.store)
    strips = comparable(strips_of(results, results.rows, {}, across=""))
    grid = laid_out("noise", strips, results.rows, most=8, prompt=1, clouds=True)
    assert grid.heads == ("4 noises",)
    assert places(grid) == {"LCM, NFE 4": [(4, 1)]}


def test_clean_predictions_are_drawn_and_what_lacks_them_says_so(
    world: Any, make_experiment: Any, tmp_path: Path
) -> None:
    for label in ("TDM", "LCM"):
        world.row(label, 25.0, 3.0)
    pixels = np.random.default_rng(0)
    for cell in world.cells:
        folder = world.store.path("sample", cell.sample)
        images = pixels.integers(0, 256, (world.prompts, 8, 8, 3), dtype=np.uint8)
        save_file({"samples": images}, folder / "samples-00000.safetensors")
    kept = pixels.integers(0, 256, (2, 4, 8, 8, 3), dtype=np.uint8)
    first = world.store.path("sample", world.cells[0].sample)
    save_file({"samples": kept}, first / "trajectory.safetensors")
    assert (read_trajectory(first, 1, 3) == kept[1, 3]).all()
    with pytest.raises(ArtifactError, match="keeps 2 clean predictions, sample 2 is none"):
        read_trajectory(first, 2, 0)
    other = world.store.path("sample", world.cells[1].sample)
    with pytest.raises(ArtifactError, match="keeps no clean predictions"):
        read_trajectory(other, 0, 0)
    config = FigureConfig(name="g", across="evaluations")
    results = Results(world.plan, world.store)
    (path,) = draw_grid(config, make_experiment(), results, tmp_path)
    assert path.read_bytes()[:4] == b"\x89PNG"
