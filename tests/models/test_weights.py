"""Weights files: what is refused, and how clearly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from medsgssl.errors import CheckpointError
from medsgssl.models.weights import load_weights, read_header, save_weights


def test_weights_of_encoders_with_one_gray_channel_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "pretrained.safetensors"
    save_file({"weight": torch.ones(1, 1)}, path, metadata={"medsgssl": json.dumps({"a": 1})})
    with pytest.raises(CheckpointError, match=r"pretrained\.safetensors .*one gray channel"):
        load_weights(path, nn.Linear(1, 1, bias=False), {})


@pytest.mark.parametrize("header", ["[]", "no JSON", '{"a":' * 5000, "[" * 100_000])
def test_a_header_that_is_none_is_refused(tmp_path: Path, header: str) -> None:
    path = tmp_path / "pretrained.safetensors"
    metadata = {"medsgssl": header, "format": "2"}
    save_file({"weight": torch.ones(1, 1)}, path, metadata=metadata)
    with pytest.raises(CheckpointError, match=r"pretrained\.safetensors is damaged or holds no"):
        read_header(path)


def test_weights_come_back_with_their_facts(tmp_path: Path) -> None:
    path = tmp_path / "pretrained.safetensors"
    written, read = nn.Linear(3, 2), nn.Linear(3, 2)
    save_weights(path, written, {"method": "simclr"})
    assert load_weights(path, read, {"method": "simclr"}) == {"method": "simclr"}
    assert torch.equal(read.weight, written.weight)
