"""A run that was killed and started again is the run that never stopped, bit for bit."""

from __future__ import annotations

import csv
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from medsgssl.config.schema import Config
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.errors import CheckpointError, MedsgsslError
from medsgssl.training.finetuning import finetune
from medsgssl.training.pretraining import pretrain
from medsgssl.training.trainer import Trainer
from medsgssl.utils.interrupts import StopRequested, catch_signals

FACTS = {"key": "k", "method": "masked-contrastive", "encoder": "test_efficientnet"}
TIMES = {"images_per_second", "data_wait", "seconds"}

Build = Callable[..., Config]


class Killed(BaseException):
    """Stands in for SIGKILL: nothing in the loop may catch it."""


def kill_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    left, step = [steps], Trainer._train_step

    def counted(self: Trainer, *arguments: Any) -> None:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        step(self, *arguments)

    monkeypatch.setattr(Trainer, "_train_step", counted)


def log_of(path: Path) -> list[dict[str, str]]:
    with path.open() as stream:
        rows = list(csv.DictReader(stream))
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def assert_same_weights(a: Path, b: Path) -> None:
    one, two = load_file(a), load_file(b)
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name


@pytest.fixture(scope="module")
def whole_pretraining(
    tmp_path_factory: pytest.TempPathFactory, view_source: ImageMaskDataset, tiny_config: Build
) -> Path:
    """A pretraining that was never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    pretrain(pretraining(tiny_config), view_source, folder, FACTS)
    return folder


def pretraining(tiny_config: Build, **changes: Any) -> Config:
    return tiny_config("masked-contrastive", pretrain__epochs=4, encoder__drop_path=0.1, **changes)


# The training split has ten images, so an epoch has five steps.
@pytest.mark.parametrize(("killed_after", "workers"), [(3, 0), (10, 0), (13, 2)])
def test_pretraining_goes_on_exactly(
    tmp_path: Path,
    view_source: ImageMaskDataset,
    tiny_config: Build,
    whole_pretraining: Path,
    killed_after: int,
    workers: int,
) -> None:
    config = pretraining(tiny_config, pretrain__checkpoint_minutes=0, data__num_workers=workers)
    with pytest.MonkeyPatch.context() as patch:
        kill_after(killed_after, patch)
        with pytest.raises(Killed):
            pretrain(config, view_source, tmp_path, FACTS)
    assert (tmp_path / "pretrain.checkpoint").is_file()
    pretrain(config, view_source, tmp_path, FACTS)
    assert_same_weights(*(d / "pretrained.safetensors" for d in (whole_pretraining, tmp_path)))
    logs = [log_of(d / "pretrain_log.csv") for d in (whole_pretraining, tmp_path)]
    assert logs[0] == logs[1]


def test_an_interrupted_stage_says_where_it_stopped_and_where_it_goes_on(
    tmp_path: Path,
    view_source: ImageMaskDataset,
    tiny_config: Build,
    whole_pretraining: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    train_step = Trainer._train_step

    def asked_to_stop(self: Trainer, *arguments: Any) -> None:
        train_step(self, *arguments)
        if self.step == 12:
            signal.raise_signal(signal.SIGINT)

    config = pretraining(tiny_config)
    with monkeypatch.context() as patch, catch_signals():
        patch.setattr(Trainer, "_train_step", asked_to_stop)
        with pytest.raises(StopRequested):
            pretrain(config, view_source, tmp_path, FACTS)
    assert "pretrain: stopped after step 13 of 20, and saved\n" in capsys.readouterr().out
    pretrain(config, view_source, tmp_path, FACTS)
    assert capsys.readouterr().out.startswith("pretrain continues at step 13 of 20\n")
    assert_same_weights(*(d / "pretrained.safetensors" for d in (whole_pretraining, tmp_path)))


@pytest.mark.parametrize("killed_after", [2, 8])
def test_fine_tuning_goes_on_exactly_frozen_epochs_and_dropout_included(
    tmp_path: Path, view_source: ImageMaskDataset, tiny_config: Build, killed_after: int
) -> None:
    config = tiny_config(
        "masked-contrastive",
        no_pretrain=True,
        finetune__epochs=3,
        finetune__freeze_epochs=1,
        finetune__dropout=0.2,
        finetune__checkpoint_minutes=0,
        finetune__accumulate_grad_batches=2,
    )
    finetune(config, view_source, tmp_path / "whole", FACTS)
    with pytest.MonkeyPatch.context() as patch:
        kill_after(killed_after, patch)
        with pytest.raises(Killed):
            finetune(config, view_source, tmp_path / "cut", FACTS)
    finetune(config, view_source, tmp_path / "cut", FACTS)
    assert_same_weights(*(tmp_path / d / "classifier.safetensors" for d in ("whole", "cut")))
    logs = [log_of(tmp_path / d / "finetune_log.csv") for d in ("whole", "cut")]
    assert logs[0] == logs[1]


def test_a_checkpoint_of_another_configuration_is_refused(
    tmp_path: Path, view_source: ImageMaskDataset, tiny_config: Build
) -> None:
    config = tiny_config("simclr", pretrain__checkpoint_minutes=0)
    with pytest.MonkeyPatch.context() as patch:
        kill_after(3, patch)
        with pytest.raises(Killed):
            pretrain(config, view_source, tmp_path, FACTS)
    with pytest.raises(CheckpointError, match="another configuration"):
        pretrain(config, view_source, tmp_path, FACTS | {"key": "other"})


def test_a_damaged_checkpoint_is_an_error_that_names_the_file(
    tmp_path: Path, view_source: ImageMaskDataset, tiny_config: Build
) -> None:
    (tmp_path / "pretrain.checkpoint").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match=r"pretrain\.checkpoint is damaged"):
        pretrain(tiny_config("simclr"), view_source, tmp_path, FACTS)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(
    tmp_path: Path, view_source: ImageMaskDataset, tiny_config: Build
) -> None:
    config = tiny_config("simclr", pretrain__lr=1e30, pretrain__clip_grad=None)
    with pytest.raises(MedsgsslError, match=r"no longer finite.*\n.*--set pretrain\.lr"):
        pretrain(config, view_source, tmp_path, FACTS)
    assert not (tmp_path / "pretrained.safetensors").exists()
