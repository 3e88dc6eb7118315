"""The papers' numbers: as published, matched without guessing."""

from __future__ import annotations

import pytest

from distillbench.analysis.published import load_published, published_stems
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
