"""The papers' numbers: as published, matched without guessing."""

from __future__ import annotations

import pytest

from distillbench.analysis.published import load_published, of_label, published_stems
from distillbench.errors import ConfigError


def test_every_table_loads_and_names_its_source() -> None:
    assert len(published_stems()) == 13
    for stem in published_stems():
        table = load_published(stem)
        assert table.rows
        assert "arXiv" in table.source


def test_exactly_five_averages_differ_from_their_styles() -> None:
    found = [
        (stem, row.name, row.steps)
        for stem in published_stems()
        for row in load_published(stem).rows
        if "hps" in row.column_notes
    ]
    assert sorted(found) == [
        ("tdm_table1", "Hyper-SD", 1),
        ("tdm_table1", "Hyper-SD", 4),
        ("tdm_table1", "TDM-unify-GAN", 1),
        ("tdm_table1", "YOSO-512", 4),
        ("tdm_table2_lora_unseen", "TDM", 4),
    ]
    row = load_published("tdm_table1").require("YOSO-512")
    assert row.cells["hps"] == "30.60"
    assert "30.50" in row.note("hps")[0]


def test_rows_are_found_by_name_backbone_and_steps() -> None:
    table = load_published("tdm_table1")
    assert table.require("TDM-unify-GAN", nfe=1).cells["hps"] == "28.54"
    assert table.require("TDM-unify-GAN | 4").cells["hps"] == "30.83"
    assert table.require("TCD | SDXL").cells["hps"] == "27.81"
    assert table.require("tcd", backbone=["SD-v1.5"], nfe=4).cells["hps"] == "22.24"
    for row in table.rows:
        assert table.require(row.key) is row


def test_a_row_that_is_not_there_or_not_unique_is_an_error_with_choices() -> None:
    table = load_published("tdm_table1")
    assert table.find("TCD", nfe=4) is None
    with pytest.raises(ConfigError, match=r"fits several rows.*TCD \| SD-v1.5 \| 4; TCD \| SDXL"):
        table.require("TCD", nfe=4)
    with pytest.raises(ConfigError, match="names no row"):
        table.require("TDMM")
    with pytest.raises(ConfigError, match="tdm_table1"):
        load_published("tdm_table9")


def test_human_feedback_rows_say_so() -> None:
    notes = load_published("tdm_table1").require("Hyper-SD | SDXL").note("aes")
    assert len(notes) == 1
    assert "human feedback" in notes[0]


def test_columns_by_steps_and_scale() -> None:
    ablation = load_published("tdm_table5_ablation_unify").require("TDM-unify")
    assert ablation.column("hps", 1) == ("hps_1_step", 1.0)
    assert ablation.column("hps", 4) == ("hps_4_steps", 1.0)
    reward = load_published("tcd_table1_coco5k").require("TCD | 4")
    assert reward.column("image_reward", 4) == ("image_reward_x100", 0.01)
    styles = load_published("tdm_table1").require("TDM")
    assert styles.column("hps_concept-art", 4) == ("hps_concept_art", 1.0)
    assert styles.column("image_free", 4) is None


def test_numbers_of_other_steps_or_backbones_are_never_shown() -> None:
    table = load_published("tdm_table1")
    base = "Base Model (CFG = 3.5) | SD-v1.5"
    assert table.require(base, backbone=["tiny-sd"], nfe=25) is not None
    assert table.require(base, backbone=["tiny-sd"], nfe=4) is None
    assert table.require("LCM-dreamshaper | SD-v1.5", backbone=["SDXL"], nfe=4) is None
    assert table.find("YOSO-512", backbone=["tiny-sd"], nfe=4) is None
    with pytest.raises(ConfigError, match="needs the backbone"):
        table.require("YOSO-512", backbone=["tiny-sd"], nfe=4)
    found = table.find("LCM", backbone=["SDXL"], nfe=4)
    assert found is not None
    assert found.cells["hps"] == "29.41"


def test_keys_are_exact_and_unique() -> None:
    counts = {}
    for stem in published_stems():
        table = load_published(stem)
        keys = [row.key for row in table.rows]
        assert len(set(keys)) == len(keys), stem
        assert all(table.require(key) is row for key, row in zip(keys, table.rows, strict=True))
        counts[stem] = len(keys)
    assert sum(counts.values()) == 114
    table = load_published("tdm_table1")
    assert table.rows[6].key == "TDM-unify-GAN | SD-v1.5 | 1"
    assert load_published("hypersd_table3_unified_lora").rows[0].key == "SD15 | 8"
    with pytest.raises(ConfigError, match="names no row"):
        table.require("TDM | 34.88")  # a score is no part of a key


def test_a_match_is_of_one_label_and_steps_differ_only_where_it_says_so() -> None:
    table = load_published("tcd_table2_parameterisation")

    def beside(match: dict[str, str], nfe: int, label: str = "TCF(2)") -> str:
        row = table.beside(match, label, backbone=["tiny-sd"], nfe=nfe)
        return row.key if row else ""

    assert beside({}, 4) == ""
    assert beside({"TCF(2)": "TCF(2)"}, 4) == "TCF(2) | 4"
    assert beside({"TCF(2)": "TCF(2)"}, 8) == ""
    assert beside({"TCF(2)": "TCF(2) | 4"}, 8) == ""
    one = {"TCF(2)[nfe=8]": "TCF(2) | 4"}
    assert [beside(one, nfe) for nfe in (4, 8)] == ["", "TCF(2) | 4"]
    assert beside(one, 8, "TCF(2)[nfe=8]") == ""
    assert of_label("a [nfe=4]") == ("a ", 4)
    assert of_label("a[nfe=x]") == ("a[nfe=x]", None)
    assert of_label("a[backbone=b c]") == ("a", None)


def test_a_match_may_say_which_of_two_backbones() -> None:
    table = load_published("tdm_table2_lora_unseen")
    pairs = {"Photos": "Realistic", "Paintings": "Dreamshaper"}
    match = {f"LCM[backbone={our}]": f"LCM | SD-v1.5 {their}" for our, their in pairs.items()}
    rows = [table.beside(match, "LCM", backbone=[name, ""], nfe=4) for name in pairs]
    assert [row.cells["fid"] for row in rows if row] == ["26.89", "25.36"]
    assert table.beside(match, "LCM", backbone=["base", ""], nfe=4) is None
    assert table.beside(match, "LCM", backbone=["Photos", ""], nfe=1) is None


def test_slips_of_the_published_tables_are_noted_and_true() -> None:
    costs, first = load_published("tdm_table3_training_cost"), load_published("tdm_table1")
    assert "CLIP scores" in costs.note
    assert "32.01 here and 33.21" in costs.note
    for name in ("DMD2", "TDM-unify-GAN", "TDM-unify-SFT"):
        ours = costs.require(f"{name} | SD-v1.5 | 4").cells["hps"]
        assert ours == first.require(f"{name} | SD-v1.5 | 4").cells["clip"]
    lora = load_published("tdm_table2_lora_unseen")
    assert "both checkpoints" in lora.note
    one, two = (lora.require(f"TCD | SD-v1.5 {n} | 4").cells for n in ("Realistic", "Dreamshaper"))
    assert all(one[column] == two[column] for column in ("clip", "fid"))
