"""One mask recipe for all runs of a study, and one student per fold."""

import pandas as pd
import pytest
import torch

from medsgssl.config.schema import DataSettings
from medsgssl.data.catalog import load_or_build
from medsgssl.data.synthetic.dataset import generate_phantoms
from medsgssl.errors import ConfigError, MaskError
from medsgssl.masks.recipes.distilled.network import Student
from medsgssl.masks.recipes.distilled.student_weights import StudentCard, save_student
from medsgssl.methods.registry import method_of
from medsgssl.study import mask_students
from medsgssl.study.mask_students import fix_masks, student_of_fold
from medsgssl.study.plan_builder import make_plan
from medsgssl.study.plan_summary import describe_plan

CARD = StudentCard("phantoms", 1, 1, "anything else", "anatomic, version 3", 7, {}, [])


def save(path, patients):
    torch.manual_seed(0)
    seen = pd.DataFrame({"name": "other", "patient": patients, "source": "nih"})
    save_student(path, Student().state_dict(), CARD, seen)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("nih")
    generate_phantoms(place / "data", 40, 48)
    return place


def planned(folder, *items, **repeats):
    settings = [f"data.cache_dir={folder / 'cache'}", "data.split=random", *items]
    return make_plan(folder / "data", ["simclr", "guided-crop"], items=settings, **repeats)


def patient_of(folder, split):
    settings = DataSettings(root=folder / "data", split="random", cache_dir=folder / "cache")
    table = load_or_build(settings).table
    return f"nih {int(table.loc[table['split'] == split, 'patient_id'].iloc[0]):08d}"


@pytest.mark.parametrize(("saw", "recipe"), [("train", "distilled"), ("test", "anatomic")])
def test_auto_stands_for_one_recipe_in_all_runs(folder, tmp_path, saw, recipe):
    weights = save(tmp_path / "student.safetensors", [patient_of(folder, saw)])
    plan = planned(folder, f"masks.weights={weights}", seeds=2)
    fixed = fix_masks(plan)
    assert {fixed.config(run).masks.recipe for run in fixed.runs} == {recipe}
    assert any(recipe in line for line in describe_plan(fixed))
    assert fixed.hash != plan.hash
    assert fix_masks(fixed) == fixed


def test_a_named_student_that_saw_test_patients_stops_a_study_before_any_work(folder, tmp_path):
    weights = save(tmp_path / "student.safetensors", [patient_of(folder, "test")])
    asked = ("masks.recipe=distilled", f"masks.weights={weights}")
    with pytest.raises(MaskError, match="saw 1 image"):
        fix_masks(planned(folder, *asked, seeds=1))


def test_with_folds_auto_avoids_a_student_that_saw_any_patient(folder, tmp_path):
    weights = save(tmp_path / "student.safetensors", [patient_of(folder, "train")])
    fixed = fix_masks(planned(folder, f"masks.weights={weights}", folds=5))
    assert fixed.mask_recipe == "anatomic"


def test_with_folds_a_named_student_is_taught_once_per_fold(folder, tmp_path, monkeypatch):
    everyone = load_or_build(
        DataSettings(root=folder / "data", split="train", cache_dir=folder / "cache")
    ).table["patient_id"]
    shipped = save(tmp_path / "shipped.safetensors", [f"nih {int(p):08d}" for p in everyone])
    monkeypatch.setattr(mask_students, "SHIPPED", shipped)
    plan = fix_masks(planned(folder, "masks.recipe=distilled", folds=5))
    taught = []

    def teach(data, out, settings, *, say):
        taught.append(data.fold)
        save(out, [])

    monkeypatch.setattr("medsgssl.data.mask_student.teach", teach)
    weights = set()
    for run in plan.runs:
        config = student_of_fold(plan.config(run), tmp_path / "study", lambda line: None)
        # Runs that look at no mask need no student.
        assert (config.masks.weights is not None) == method_of(config).sees_masks
        if config.masks.weights is not None:
            weights.add((run.fold, config.masks.weights.name))
    assert taught == [0, 1, 2, 3, 4]
    assert weights == {(fold, f"fold-{fold}.safetensors") for fold in range(5)}


def test_a_study_whose_auto_stood_for_another_recipe_is_not_continued(folder, tmp_path):
    train, test = (
        save(tmp_path / f"{split}.safetensors", [patient_of(folder, split)])
        for split in ("train", "test")
    )
    weights = tmp_path / "student.safetensors"
    weights.write_bytes(train.read_bytes())
    plan = planned(folder, f"masks.weights={weights}", seeds=1)
    fix_masks(plan).save(tmp_path)
    assert fix_masks(plan).joined(tmp_path).mask_recipe == "distilled"
    weights.write_bytes(test.read_bytes())
    with pytest.raises(ConfigError, match="stands for anatomic now, for distilled before"):
        fix_masks(plan).joined(tmp_path)
