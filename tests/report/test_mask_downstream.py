"""The comparison of mask recipes by what a method makes of them: its split and its page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.mask_downstream import write_split
from benchmarks.mask_downstream_results import MASKS, Results, page, run_name
from medsgssl.data.official import nih_test_patients, nih_val_patients
from medsgssl.evaluation.metrics import auc_per_class
from medsgssl.evaluation.predictions import Predictions
from medsgssl.masks.recipes.distilled.student_weights import SHIPPED, read_seen

DISEASES = ("Effusion", "Hernia")
SETTINGS = {
    "encoder.name": "some_network",
    "data.img_size": 64,
    "pretrain.epochs": 1,
    "finetune.epochs": 1,
}
SPLIT = {part: {"images": 3, "patients": 2} for part in ("train", "val", "test")}


def test_the_student_saw_nothing_that_is_scored(tmp_path: Path) -> None:
    seen = read_seen(SHIPPED)["patient"].str.removeprefix("nih ")
    official, common = (sorted(int(one) for one in people())
                        for people in (nih_test_patients, nih_val_patients))  # fmt: skip
    taught = int(seen.iloc[0])
    trainval = [taught, official[0], common[0]]
    patients = [*trainval, official[1], common[1]]
    files = [f"{patient:08d}_000.png" for patient in patients]
    findings = ["Effusion|Mass", "No Finding", "Mass", "No Finding", "Effusion"]
    table = pd.DataFrame({"Image Index": files, "Finding Labels": findings, "Patient ID": patients})
    data = tmp_path / "nih"
    (data / "images").mkdir(parents=True)
    table.to_csv(data / "Data_Entry_2017.csv", index=False)
    (data / "train_val_list.txt").write_text("\n".join(files[:3]))
    (data / "test_list.txt").write_text("\n".join(files[3:]))
    counts = write_split(data, tmp_path / "out")
    made = pd.read_csv(tmp_path / "out" / "labels.csv").set_index("Image Index")
    assert made["split"].to_dict() == dict(
        zip([files[0], files[2], *files[3:]], ["train", "val", "test", "test"], strict=True)
    )
    assert made.loc[files[0], ["Effusion", "Mass"]].tolist() == [1, 1]
    assert {part: one["images"] for part, one in counts.items()} == {
        "train": 1,
        "val": 1,
        "test": 2,
    }
    scored = made.index[made["split"] != "train"].str[:8]
    assert not set(scored) & set(seen)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """Three seeds of each recipe; the better the masks, the better the scores."""
    random = np.random.default_rng(0)
    images = 120
    labels = random.integers(0, 2, (images, len(DISEASES)))
    made = Results(tmp_path)
    made.check({"guided-crop": SETTINGS}, SPLIT)
    made.record["masks"] = {
        name: {"whole image": 1, "below quality": 2, "dice with distilled": 0.9} for name in MASKS
    }
    for seed in range(3):
        for skill, masks in enumerate(["random-blob", "classic", "anatomic", "distilled"]):
            noise = random.normal(size=labels.shape)
            scores = 1 / (1 + np.exp(-(labels * skill + noise)))
            table = pd.DataFrame(
                {
                    "image_id": [f"{n:03d}.png" for n in range(images)],
                    "patient_id": [f"{n // 2:03d}" for n in range(images)],
                    "split": "test",
                    "view_position": "PA",
                    "sex": "F",
                    "age": 50,
                }
            )
            for d, disease in enumerate(DISEASES):
                table[f"label_{disease}"] = labels[:, d]
                table[f"score_{disease}"] = scores[:, d]
            Predictions(table).write(tmp_path / "one.parquet")
            known = {"method": "guided-crop", "masks": masks, "seed": seed, "device": "CPU"}
            made.add(run_name("guided-crop", masks, seed), tmp_path / "one.parquet", known)
    return made


def test_the_page_has_the_means_of_the_scores_and_their_differences(results: Results) -> None:
    test = results.split()
    means = {}
    for name, run in results.record["runs"].items():
        mean = auc_per_class(test.labels, results.of(name, DISEASES)).mean()
        means.setdefault(run["masks"], []).append(mean)
    text = page(results)
    rows = [line for line in text.splitlines() if line.startswith("| distilled minus random-blob")]
    gain = np.mean(means["distilled"]) - np.mean(means["random-blob"])
    assert len(rows) == 1
    assert f"| +{gain:.3f} |" in rows[0]
    assert f"| classic | 3 | {np.mean(means['classic']):.3f} |" in text
    assert "distilled minus random-blob" in text.split("Zero lies outside")[1].split("Zero")[0]


def test_a_run_whose_second_file_was_never_written_is_added_once(
    results: Results, tmp_path: Path
) -> None:
    name = run_name("guided-crop", "distilled", 2)
    before = page(results)
    run = results.record["runs"].pop(name)
    results.add(name, tmp_path / "one.parquet", run)
    assert page(Results(tmp_path)) == before


def test_other_settings_need_another_folder(results: Results, tmp_path: Path) -> None:
    again = Results(tmp_path)
    again.check({"guided-crop": SETTINGS}, SPLIT)
    with pytest.raises(SystemExit, match="other settings"):
        again.check({"guided-crop": SETTINGS | {"data.img_size": 96}}, SPLIT)
