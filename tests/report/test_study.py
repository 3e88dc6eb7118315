"""A blind study: made, judged in a browser, served, counted; and what is refused."""

from __future__ import annotations

import base64
import io
import json
import re
import socket
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence
from safetensors.numpy import save_file

from distillbench.analysis.aggregate import Results
from distillbench.errors import ArtifactError, BadInput
from distillbench.report.study.key import Key
from distillbench.report.study.make import make_study
from distillbench.report.study.row import tally_table, write_tally
from distillbench.report.study.serve import server_of
from distillbench.report.study.tally import read_answers, tally

HOSTILE = '</script><img src=x onerror="window.hacked=1"> @script@'


def stored(world: Any) -> None:
    """Pictures by which the rows can be told: A is red, B is blue."""
    for number, cell in enumerate(world.cells):
        folder = world.store.path("sample", cell.sample)
        pictures = np.zeros((world.prompts, 8, 8, 3), np.uint8)
        pictures[..., :4, number % 3] = 255
        save_file({"samples": pictures}, folder / "samples-00000.safetensors")


@pytest.fixture
def results(world: Any) -> Results:
    world.row("A", 30.0, 5.0, seeds=(0, 1))
    world.row("B", 29.0, 5.0, seeds=(0, 1))
    stored(world)
    return Results(world.plan, world.store)


@pytest.fixture
def key(results: Results, tmp_path: Path) -> Key:
    return make_study(results, ("A", "B"), pairs=6, checks=2, seed=0, out=tmp_path / "study")


def answered(path: Path, key: Key, rater: str, choose: Any) -> Path:
    answers = [{"pair": n, "choice": choose(pair)} for n, pair in enumerate(key.pairs)]
    path.write_text(json.dumps({"study": key.study, "rater": rater, "answers": answers}))
    return path


def for_a(pair: Any) -> str:
    return str(pair.a)


def for_b(pair: Any) -> str:
    other = {"left": "right", "right": "left"}[pair.a]
    return pair.a if pair.check else other


def test_a_study_is_blind_balanced_and_the_same_again(
    key: Key, results: Results, tmp_path: Path
) -> None:
    page = (tmp_path / "study/study.html").read_text()
    data = json.loads(re.search(r'id="page-data">(.*?)</script>', page)[1])
    assert set(data) == {"study", "pairs", "colours"}
    assert {tuple(sorted(pair)) for pair in data["pairs"]} == {("left", "prompt", "right")}
    assert len({pair.index for pair in key.pairs if not pair.check}) == 6
    assert [pair.check for pair in key.pairs].count(True) == 2
    for cell in results.plan.cells:
        assert cell.sample not in page
    again = make_study(results, ("A", "B"), pairs=6, checks=2, seed=0, out=tmp_path / "again")
    assert again == key
    assert (tmp_path / "again/study.html").read_text() == page
    other = make_study(results, ("A", "B"), pairs=6, checks=2, seed=1, out=tmp_path / "other")
    assert other.study != key.study


def test_a_tally_has_win_rate_interval_and_agreement(key: Key, tmp_path: Path) -> None:
    files = [
        answered(tmp_path / "1.json", key, "ann", for_a),
        answered(tmp_path / "2.json", key, "bob", for_a),
        answered(tmp_path / "3.json", key, "cy", for_b),
        answered(tmp_path / "4.json", key, "dan", lambda pair: "tie"),
    ]
    found = tally(key, read_answers(key, files))
    assert found.raters == ("ann", "bob", "cy")
    assert found.inattentive == ("dan",)
    assert (found.wins, found.ties, found.losses, found.win_rate) == (6, 0, 0, 1.0)
    assert found.low == pytest.approx(0.6097, abs=1e-3)  # Wilson, 6 of 6
    assert found.agreement == pytest.approx(1 / 3)
    assert found.verdict == "A is preferred"
    assert "100.0% of 6 pairs" in found.claim
    split = tally(key, read_answers(key, [files[0], files[2]]))
    assert (split.ties, split.win_rate, split.verdict) == (6, 0.5, "undecided")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"study": "other"}, "answers to another study"),
        ({"answers": [{"pair": 99, "choice": "left"}]}, "pairs that are not there"),
        ({"answers": [{"pair": True, "choice": "left"}]}, "pairs that are not there"),
        ({"answers": [{"pair": 1, "choice": "left"}] * 2}, "a pair twice"),
        ({"answers": [{"pair": 0, "choice": "A"}]}, "none of left, right, tie"),
        ({"answers": [{"pair": n, "choice": "tie"} for n in (0, 2)]}, "not pair 1: .* in order"),
        ({"answers": 3}, "not a file of answers"),
        ({"rater": ""}, "no rater"),
        ({"rater": 7}, "no rater"),
    ],
)
def test_answers_that_were_tampered_with_are_refused(
    key: Key, tmp_path: Path, change: dict[str, Any], text: str
) -> None:
    good = answered(tmp_path / "good.json", key, "ann", for_a)
    bad = answered(tmp_path / "bad.json", key, "bob", for_a)
    bad.write_text(json.dumps({**json.loads(bad.read_text()), **change}))
    with pytest.raises(BadInput, match=f"bad.json: .*{text}") as error:
        read_answers(key, [good, bad])
    assert "good.json" not in str(error.value)


def test_one_rater_counts_once_and_an_altered_key_does_not(key: Key, tmp_path: Path) -> None:
    files = [answered(tmp_path / f"{n}.json", key, "ann", for_a) for n in range(2)]
    with pytest.raises(BadInput, match="the same rater 'ann'"):
        read_answers(key, files)
    path = tmp_path / "study/key.json"
    assert Key.read(path) == key
    path.write_text(path.read_text().replace('"left"', '"right"', 1))
    with pytest.raises(ArtifactError, match="truncated or altered"):
        Key.read(path)
    with pytest.raises(BadInput, match="no such file"):
        Key.read(tmp_path / "nowhere.json")


def test_rows_that_cannot_be_compared_are_refused(
    world: Any, results: Results, tmp_path: Path
) -> None:
    world.prompts = 4
    world.row("short", 30.0, 5.0)
    world.row("late", 30.0, 5.0, done=False)
    world.row("other", 30.0, 5.0, backbone="xl")
    stored_rows = Results(world.plan, world.store)
    for rows, text in (
        (("A", "short"), "different prompts"), (("A", "late"), "not done"),
        (("A", "other"), "different backbones"), (("A", "nobody"), "nobody"),
        (("A", "A"), "same samples"), (("A[", "B"), "rows"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=text):
            make_study(stored_rows, rows, pairs=2, checks=0, seed=0, out=tmp_path / "s")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("label", ["ours (v2), 50 %", "a 'b' *", 'say "x" > y'])
def test_rows_are_taken_by_their_very_labels(
    world: Any, results: Results, tmp_path: Path, label: str
) -> None:
    world.row(label, 30.0, 5.0, seeds=(0, 1))
    stored(world)
    found = Results(world.plan, world.store)
    for rows in ((label, "A"), ("A", f"{label}[nfe=4]")):
        assert make_study(found, rows, pairs=2, checks=0, seed=0, out=tmp_path / "s").a == rows[0]


def test_clips_play_and_a_check_is_noise_in_every_frame(
    world: Any, results: Results, tmp_path: Path
) -> None:
    for number, cell in enumerate(world.cells):
        clips = np.random.default_rng(number).integers(0, 256, (8, 5, 8, 8, 3), dtype=np.uint8)
        folder = world.store.path("sample", cell.sample)
        save_file({"samples": clips}, folder / "samples-00000.safetensors")
    made = make_study(results, ("A", "B"), pairs=2, checks=1, seed=0, out=tmp_path / "study")
    page = (tmp_path / "study/study.html").read_text()
    assert "<title>Which clip is better?</title>" in page
    data = json.loads(re.search(r'id="page-data">(.*?)</script>', page)[1])
    for pair, entry in zip(data["pairs"], made.pairs, strict=True):
        left, right = (frames_of(pair[side]) for side in ("left", "right"))
        assert left.shape == right.shape == (5, 8, 8, 3)
        same = np.array_equal(np.sort(left, None), np.sort(right, None))
        assert same == entry.check
        assert not np.array_equal(left, right)


def frames_of(source: str) -> np.ndarray:
    assert source.startswith("data:image/webp;base64,")
    clip = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
    return np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(clip)])


@pytest.fixture
def served(key: Key, tmp_path: Path) -> Iterator[str]:
    with server_of(tmp_path / "study", host="127.0.0.1", port=0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_server_gives_the_page_keeps_answers_and_nothing_else(
    served: str, key: Key, tmp_path: Path
) -> None:
    assert b"Which picture" in urllib.request.urlopen(served).read()
    for path in ("/key.json", "/../key.json", "/study.html", "/answers"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(served + path)
    good = {"study": key.study, "rater": "../../x y", "started": "t", "answers": []}
    assert posted(served, good) == 200
    assert posted(served, {**good, "study": "no"}) == 400
    assert posted(served, b"[]") == 400
    (kept,) = (tmp_path / "study").glob("answers-*")
    assert kept.name == "answers-_x_y-t.json"
    with pytest.raises(BadInput, match="in use"):
        server_of(tmp_path / "study", host="127.0.0.1", port=int(served.rpartition(":")[2]))


def posted(served: str, answers: Any) -> int:
    body = answers if isinstance(answers, bytes) else json.dumps(answers).encode()
    try:
        return int(urllib.request.urlopen(f"{served}/answers", data=body).status)
    except urllib.error.HTTPError as error:
        return int(error.code)


def test_older_answers_never_replace_newer_ones(served: str, key: Key, tmp_path: Path) -> None:
    """Requests that overtake each other, or come from a second window."""
    answers = {"study": key.study, "rater": "ann", "started": "t"}
    given = [{"pair": n, "choice": "left"} for n in range(3)]
    assert posted(served, {**answers, "turn": 4, "answers": given}) == 200
    assert posted(served, {**answers, "turn": 3, "answers": given[:2]}) == 409
    (kept,) = (tmp_path / "study").glob("answers-*")
    assert len(json.loads(kept.read_bytes())["answers"]) == 3
    kept.write_text("{")  # what a person broke is no reason to refuse answers
    assert posted(served, {**answers, "turn": 5, "answers": given}) == 200
    assert read_answers(key, [kept])[0].choices == dict.fromkeys(range(3), "left")
    assert list((tmp_path / "study").glob("*.part")) == []


@pytest.mark.parametrize(
    "body", [b"{", b"[1]", b"1", b"[" * 90_000, b'{"turn": 1e999}', b'{"turn": {}}', b"\xff"]
)
def test_what_is_no_answers_is_refused(served: str, key: Key, body: bytes) -> None:
    if b"turn" in body:
        body = (
            json.dumps({"study": key.study, "rater": "a", "started": "", "answers": []}).encode()[
                :-1
            ]
            + b", "
            + body[1:]
        )
    assert posted(served, body) == 400
    assert urllib.request.urlopen(served).status == 200


def test_a_browser_that_closes_midway_is_not_talked_of(
    served: str, capfd: pytest.CaptureFixture[str], key: Key, tmp_path: Path
) -> None:
    host, port = served.removeprefix("http://").split(":")
    linger = struct.pack("ii", 1, 0)
    for body in (
        b"POST /answers HTTP/1.0\r\nContent-Length: 900\r\n\r\n{",
        b"GET / HTTP/1.0\r\n\r\n",
    ):
        with socket.create_connection((host, int(port))) as client:
            client.sendall(body)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)  # reset, not closed
    good = {"study": key.study, "rater": "ann", "started": "t", "answers": []}
    assert posted(served, good) == 200
    assert len([*(tmp_path / "study").glob("answers-*")]) == 1
    assert capfd.readouterr().err == ""


def test_a_disk_that_takes_nothing_is_told_to_the_browser(
    served: str, key: Key, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("distillbench.report.study.serve.os.replace", full)
    good = {"study": key.study, "rater": "ann", "started": "t", "answers": []}
    assert posted(served, good) == 507
    assert {p.name for p in (tmp_path / "study").iterdir()} == {"study.html", "key.json"}


def judge(page: Any, pairs: int) -> None:
    for _ in range(pairs):
        page.keyboard.press("ArrowLeft")


def test_a_rater_judges_in_a_browser_and_a_closed_page_goes_on(
    browser: Any, served: str, key: Key, tmp_path: Path
) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(served)
    page.fill("#rater", "ann")
    page.keyboard.press("Enter")
    judge(page, 3)
    with page.expect_response("**/answers"):
        page.get_by_text("no difference").click()
    page.close()  # midway
    page = context.new_page()
    page.goto(served)
    assert f"Pair 5 of {len(key.pairs)}" in page.inner_text("main")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    grave = [v["id"] for v in axe.Axe().run(page).response["violations"]
             if v["impact"] in ("serious", "critical")]  # fmt: skip
    assert grave == []
    judge(page, 3)
    with page.expect_response("**/answers"):
        page.locator("[data-choice=right]").click()
    with page.expect_download() as download:
        page.get_by_text("Download your answers").click()
    taken = tmp_path / "answers.json"
    download.value.save_as(taken)
    (kept,) = (tmp_path / "study").glob("answers-*")
    choices = [a["choice"] for a in json.loads(taken.read_text())["answers"]]
    assert choices == ["left"] * 3 + ["tie"] + ["left"] * 3 + ["right"]
    assert [a["choice"] for a in json.loads(kept.read_text())["answers"]] == choices
    assert read_answers(key, [taken])[0].rater == "ann"
    context.close()


def test_a_server_that_was_down_gets_what_was_answered(
    browser: Any, key: Key, tmp_path: Path
) -> None:
    """It dies, the rater goes on, it comes back under the same address: nothing is lost."""
    folder = tmp_path / "study"
    with server_of(folder, host="127.0.0.1", port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_port
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}")
        page.fill("#rater", "ann")
        with page.expect_response("**/answers"):
            page.keyboard.press("Enter")
        server.shutdown()
    judge(page, 3)
    page.get_by_text("could not be sent").wait_for()
    with server_of(folder, host="127.0.0.1", port=port) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with page.expect_response("**/answers"):
            pass
        page.wait_for_function("document.getElementById('told').textContent === ''")
        server.shutdown()
    (kept,) = folder.glob("answers-*")
    assert [a["choice"] for a in json.loads(kept.read_text())["answers"]] == ["left"] * 3
    page.close()


def test_a_tally_is_a_row_of_a_table(key: Key, tmp_path: Path) -> None:
    files = [answered(tmp_path / f"{n}.json", key, n, for_a) for n in ("ann", "bob")]
    found = tally(key, read_answers(key, files))
    (line,) = tally_table(found).lines
    assert [cell.text for cell in line.cells] == [
        "A", "B", "6", "6", "0", "0", "2", "100.0%", "61.0% to 100.0%", "100%", "A is preferred",
    ]  # fmt: skip
    paths = write_tally(found, tmp_path / "tally")
    assert sorted(path.suffix for path in paths) == [".csv", ".json", ".md", ".tex", ".tex"]
    assert json.loads((tmp_path / "tally/study.json").read_text())["rows"][0]["cells"]["wins"] == 6


def test_hostile_prompts_are_shown_and_never_run(
    browser: Any, results: Results, world: Any, tmp_path: Path
) -> None:
    for cell in world.cells:
        path = world.store.path("sample", cell.sample) / "samples.jsonl"
        lines = [{**json.loads(line), "prompt": f"{HOSTILE} {n}"}
                 for n, line in enumerate(path.read_text().splitlines())]  # fmt: skip
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    make_study(results, ("A", "B"), pairs=2, checks=0, seed=0, out=tmp_path / "s")
    page = browser.new_page()
    page.goto((tmp_path / "s/study.html").as_uri())
    page.fill("#rater", HOSTILE)
    page.keyboard.press("Enter")
    assert HOSTILE in page.inner_text("h1")
    assert page.evaluate("window.hacked") is None
    page.close()


def test_raters_who_all_failed_are_named(key: Key, tmp_path: Path) -> None:
    file = answered(tmp_path / "1.json", key, "dan", lambda pair: "left")
    with pytest.raises(BadInput, match="who failed the checks are left out, dan"):
        tally(key, read_answers(key, [file]))


def test_no_answers_are_no_result(key: Key) -> None:
    with pytest.raises(BadInput, match="no answers that count"):
        tally(key, [])
