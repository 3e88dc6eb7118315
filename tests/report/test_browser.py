"""report.html in a real browser: nothing leaves the file, and every part of it can be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from distillbench.api.metric import MetricInfo
from distillbench.report.render import build_report, write_reports

HOSTILE = '</script><img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
INFOS = {
    "hps": MetricInfo("HPS v2.1", True, per_category=True),
    "fid": MetricInfo("FID", False, ".1f", per_sample=False, needs_reference=True),
}
DESK, PHONE = {"width": 1200, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def made(shared_world: Any, make_experiment: Any, tmp_path_factory: Any) -> Path:
    """A report with everything in it, hostile texts too."""
    world, out = shared_world, tmp_path_factory.mktemp("out")
    world.prompts = 30
    world.row("Teacher", 25.5, 3.0, nfe=25, ranked=False, group="Teachers")
    world.row("Teacher", 22.0, 30.0, nfe=4, ranked=False, group="Teachers")
    for nfe, hps in ((1, 26.0), (4, 29.0), (8, 28.0)):
        world.row("LCM", hps, 20.0, nfe=nfe, seeds=(0, 1, 2), group="Students")
    world.row("TDM", 30.8, 7.0, seeds=(0, 1, 2), group="Students")
    world.row(HOSTILE, 24.0, 9.0, seeds=(0, 1), group=HOSTILE)
    world.row("late", 24.0, 9.0, done=False)
    world.store.problems[world.cells[-1].train] = HOSTILE
    for number, cell in enumerate(world.cells[:-1]):
        folder = world.store.path("sample", cell.sample)
        lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
        lines[3]["prompt"] = HOSTILE
        (folder / "samples.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
        images = np.random.default_rng(number).integers(0, 256, (30, 16, 16, 3), dtype=np.uint8)
        save_file({"samples": images}, folder / "samples-00000.safetensors")
        log = [
            {"step": n + 1, "student/loss": 1 / (n + 1) + number / 99, HOSTILE: 0.5}
            for n in range(60)
        ]
        (world.store.path("train", cell.train) / "train.jsonl").write_text(
            "".join(json.dumps(x) + "\n" for x in log)
        )
    experiment = make_experiment(
        title=HOSTILE,
        tables=[{"name": "main", "caption": HOSTILE, "per_category": True, "group_by": "group"}],
        claims=["TDM > LCM on hps at nfe=4", "LCM[nfe=1] > TDM on hps", {"text": HOSTILE}],
    )
    write_reports(build_report(experiment, world.plan, world.store, infos=INFOS), out)
    return out / "report.html"


@pytest.fixture
def page(browser: Any, made: Path) -> Any:
    """The report, opened wide, every part of it started."""
    opened = opened_page(browser, made, DESK)
    yield opened
    assert opened.problems == []
    assert opened.evaluate("window.hacked") is None
    opened.close()


def opened_page(browser: Any, path: Path, size: dict[str, int]) -> Any:
    page = browser.new_page(viewport=size, reduced_motion="reduce")
    page.set_default_timeout(20_000)
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda m: m.type == "error" and page.problems.append(m.text))
    page.on("dialog", lambda dialog: page.problems.append("dialog"))
    page.on(
        "request",
        lambda r: r.url.startswith(("file:", "data:")) or page.problems.append(r.url),
    )
    page.goto(path.as_uri())
    for part in page.query_selector_all("[data-part]"):
        part.scroll_into_view_if_needed()
        page.wait_for_function("part => 'ready' in part.dataset", arg=part)
    return page


def column(page: Any, place: int, table: str = "#table-main") -> list[str]:
    rows = page.query_selector_all(f"{table} tbody tr:not(.group)")
    return [row.query_selector_all("td")[place].inner_text() for row in rows if row.is_visible()]


def ticks(page: Any, part: str) -> list[str]:
    return [t.text_content() for t in page.query_selector_all(f"[data-part={part}] .plot > text")]


def test_texts_of_an_experiment_are_shown_and_never_run(page: Any) -> None:
    assert page.title() == HOSTILE
    assert page.inner_text("h1") == HOSTILE
    assert HOSTILE in page.inner_text("#table-main")
    assert HOSTILE in page.inner_text(".alert")
    assert HOSTILE in page.text_content("[data-part=samples]")
    assert HOSTILE in page.inner_text("[data-part=losses] select")
    assert page.query_selector("img[src=x]") is None


def test_a_script_that_got_in_would_not_run(page: Any) -> None:
    page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.hacked = 2';"
        "document.body.append(s); }"
    )
    assert page.evaluate("window.hacked") is None
    assert "Content Security Policy" in page.problems.pop()


def test_tables_sort_filter_and_fold(page: Any) -> None:
    heads = page.query_selector_all("#table-main thead tr:last-child th")
    assert [h.is_visible() for h in heads] == [True, True, True, False, False, True, True]
    before = column(page, 5)
    heads[5].query_selector("button").click()
    values = [float(text.split()[0]) for text in column(page, 5) if not text.startswith("--")]
    assert values == sorted(values, reverse=True)
    assert column(page, 5)[-1].startswith("--")
    assert heads[5].get_attribute("aria-sort") == "descending"
    heads[5].query_selector("button").press("Enter")
    assert heads[5].get_attribute("aria-sort") == "ascending"
    heads[5].query_selector("button").press("Enter")
    assert column(page, 5) == before
    page.check("#table-main >> text=columns of each category")
    assert [h.is_visible() for h in heads] == [True] * 7
    page.fill("#table-main input[type=search]", "students lcm")
    assert column(page, 0) == ["LCM"] * 3
    assert page.inner_text("#table-main output") == "3 rows"


def test_curves_zoom_with_keys_mouse_and_buttons(page: Any) -> None:
    part = page.locator("[data-part=curves]")
    whole = ticks(page, "curves")
    assert {"1", "4", "8", "25"} <= set(whole)
    plot = part.locator(".plot")
    plot.focus()
    plot.press("+")
    assert ticks(page, "curves") != whole
    plot.press("0")
    assert ticks(page, "curves") == whole
    box = plot.bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    page.mouse.up()
    assert ticks(page, "curves") != whole
    part.get_by_role("button", name="Show all").click()
    assert ticks(page, "curves") == whole
    plot.press("n")
    assert "HPS v2.1" in part.locator(".reading").inner_text()


def test_curves_have_bands_of_seeds_and_other_axes(page: Any) -> None:
    part = page.locator("[data-part=curves]")
    assert part.locator(".band").count() == 1  # LCM has three seeds and a line
    assert part.locator(".whisker").count() == 2  # one point each
    axes = part.get_by_label("Over").locator("option").all_inner_texts()
    assert axes[0] == "NFE"
    part.get_by_label("Metric").select_option(label="FID")
    assert "FID (lower is better)" in ticks(page, "curves")
    part.get_by_label("log y").check()
    part.locator("summary").click()
    part.locator(".numbers tbody tr").first.wait_for()
    assert part.locator(".numbers tbody tr").count() == 7
    part.locator(".plot").press("n")
    assert part.locator(".lit").count() == 1


def test_losses_are_drawn_and_smoothed(page: Any) -> None:
    part = page.locator("[data-part=losses]")
    line = part.locator(".line").first
    before = line.get_attribute("d")
    part.get_by_label("Smoothing").fill("0.9")
    assert line.get_attribute("d") != before
    first = part.locator(".legend button").first
    number = part.locator(".line").count()
    first.click()
    assert first.get_attribute("aria-pressed") == "false"
    assert part.locator(".line").count() == number - 1
    assert "LCM, 3 seeds" in part.locator(".legend").inner_text()
    bands = part.locator(".band").count()
    assert 0 < bands < number
    part.get_by_label("each seed").check()
    assert "LCM, seed 2" in part.locator(".legend").inner_text()
    assert part.locator(".line").count() > number


@pytest.fixture
def swept(world: Any, make_experiment: Any, tmp_path: Path) -> Path:
    """A sweep of 80 runs at one NFE."""
    for n in range(80):
        rate, decay = 1e-5 * (1 + n % 10), 0.1 * (n // 10)
        varied = {"params.lr": rate, "params.decay": decay}
        world.row(f"TDM (lr={rate:g}, decay={decay:g})", 30 + n % 7, 9.0, varied=varied)
    experiment = make_experiment(tables=[{"name": "main"}], claims=[])
    write_reports(build_report(experiment, world.plan, world.store, infos=INFOS), tmp_path)
    return tmp_path / "report.html"


def test_a_sweep_can_be_read(browser: Any, swept: Path) -> None:
    """Long tables show their first rows, curves what varies, and many series can be sought."""
    page = opened_page(browser, swept, DESK)
    assert len(column(page, 0)) == 40
    page.fill("#table-main input[type=search]", "decay=0.7)")
    assert len(column(page, 0)) == 10
    page.fill("#table-main input[type=search]", "")
    page.get_by_role("button", name="Show all 80 rows").first.click()
    assert len(column(page, 0)) == 80
    curves, tradeoff = (page.locator(f"[data-part={n}]") for n in ("curves", "tradeoff"))
    assert curves.get_by_label("Over").locator("option:checked").inner_text() == "lr"
    assert curves.get_by_label("log x").is_checked()
    assert curves.locator(".line").count() == 8
    assert not curves.get_by_label("Show only").is_visible()
    assert tradeoff.locator("svg.crowd").count() == 1
    tradeoff.get_by_label("Show only").fill("lr=1e-05")
    assert tradeoff.locator(".legend button").count() == 8
    assert tradeoff.locator("[data-point]").count() == 8
    assert page.problems == []
    page.close()


def test_the_front_is_of_ranked_rows_that_nothing_beats(page: Any) -> None:
    part = page.locator("[data-part=tradeoff]")
    assert "cheaper): LCM, NFE 1; TDM, NFE 4." in part.inner_text()
    assert part.locator(".front").count() == 1
    part.get_by_label("Quality", exact=True).select_option(label="FID")
    assert "cheaper): LCM, NFE 1; TDM, NFE 4." in part.inner_text()
    part.get_by_label("Cost", exact=True).select_option(label="training seconds")
    assert "cheaper): TDM, NFE 4." in part.inner_text()


def test_claims_stand_in_a_forest(page: Any) -> None:
    part = page.locator("[data-part=forest]")
    names = [x.get_attribute("aria-label") for x in part.locator("[role=img]").all()]
    assert names[0].startswith("TDM > LCM on hps at nfe=4: holds, ")
    assert names[1].startswith("LCM[nfe=1] > TDM on hps: fails, -")
    assert part.locator(".interval").count() == 2


def test_samples_are_filtered_and_ordered_by_differences(page: Any) -> None:
    part = page.locator("[data-part=samples]")
    assert part.locator(".card").count() == 24
    part.get_by_role("button", name="Show more").click()
    assert part.locator(".card").count() == 30
    part.get_by_label("Category").select_option("concept-art")
    assert part.locator(".card").count() == 15
    part.get_by_label("Prompt").fill("prompt 11")
    assert part.locator(".card h3").all_text_contents() == ["prompt 11 concept-art"]
    part.get_by_label("Prompt").fill("")
    part.get_by_label("B", exact=True).select_option(label="TDM, NFE 4")
    for order, sign in (("A above B most", -1), ("A below B most", 1)):
        part.get_by_label("Order").select_option(label=f"HPS v2.1: {order}")
        shown = part.locator(".card p.note").all_text_contents()
        found = [sign * float(text.split(": ")[1]) for text in shown]
        assert found == sorted(found)
        assert len(found) == 15


def test_two_samples_are_compared_with_slider_blink_and_keys(page: Any) -> None:
    page.locator(".tile").nth(2).press("Enter")
    box = page.locator("dialog")
    assert box.locator("h3").inner_text() == "prompt 0"
    assert box.locator("figcaption").all_inner_texts() == ["A: LCM, NFE 1", "B: Teacher, NFE 25"]
    box.get_by_label("Where A ends and B begins").fill("20")
    cut = "getComputedStyle(document.querySelectorAll('.stage img')[1]).clipPath"
    assert page.evaluate(cut) == "inset(0px 0px 0px 20%)"
    assert "HPS v2.1" in box.locator(".told").inner_text()
    box.get_by_label("Mode").select_option("blink")
    pictures = box.locator(".stage img")
    assert [p.is_visible() for p in pictures.all()] == [True, False]
    box.get_by_role("button", name="Swap").focus()
    page.keyboard.press("Space")
    assert [p.is_visible() for p in pictures.all()] == [False, True]
    page.keyboard.press("ArrowRight")
    assert box.locator("h3").inner_text() == "prompt 1"
    page.keyboard.press("Escape")
    box.wait_for(state="detached")


def test_a_clip_plays_where_it_is_pointed_at_and_when_compared(
    browser: Any, world: Any, make_experiment: Any, tmp_path: Path
) -> None:
    world.row("LCM", 30.0, 5.0)
    clips = np.random.default_rng(0).integers(0, 256, (8, 5, 16, 16, 3), dtype=np.uint8)
    folder = world.store.path("sample", world.cells[0].sample)
    save_file({"samples": clips}, folder / "samples-00000.safetensors")
    experiment = make_experiment()
    write_reports(build_report(experiment, world.plan, world.store, infos=INFOS), tmp_path)
    page = opened_page(browser, tmp_path / "report.html", DESK)
    tile = page.locator(".tile").first
    tile.scroll_into_view_if_needed()
    shown = lambda: tile.locator("img").get_attribute("src").partition(";")[0]  # noqa: E731
    assert shown() == "data:image/png"
    tile.hover()
    assert shown() == "data:image/webp"
    page.mouse.move(0, 0)
    assert shown() == "data:image/png"
    tile.press("Enter")
    page.locator("dialog .stage img[src^='data:image/webp']").first.wait_for()
    assert page.problems == []
    page.close()


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessible_at_every_width(
    browser: Any, made: Path, size: dict[str, int], scheme: Any
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = opened_page(browser, made, size)
    page.emulate_media(color_scheme=scheme)
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, "the page is wider than its window"
    page.locator(".tile").first.click()
    for part in ("dialog", "body"):
        found = axe.Axe().run(page, context=part).response["violations"]
        grave = [v for v in found if v["impact"] in ("serious", "critical")]
        assert [(v["id"], [n["html"][:120] for n in v["nodes"][:3]]) for v in grave] == []
        page.keyboard.press("Escape")
    assert page.problems == []
    page.close()


def test_no_scripts_tables_and_claims_are_there(browser: Any, made: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(made.as_uri())
    assert "TDM" in page.inner_text("#table-main")
    assert "Without JavaScript" in page.inner_text("footer")
    context.close()
