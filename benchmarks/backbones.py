"""What each of forty families of timm can do here: the table of docs/backbones.md.

    python benchmarks/backbones.py docs/backbones.md [MODEL ...]

With names, only their lines are measured; the others stay as they are on the page. Random weights,
one image at 224 pixels. ``tests/models/test_timm_families.py`` checks the table.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timm.data import resolve_data_config  # type: ignore[attr-defined]

from medsgssl.errors import ConfigError
from medsgssl.inference.maps import map_kind
from medsgssl.methods.registry import all_methods, configure, method_of
from medsgssl.models.encoder import Encoder, MapLayout

SIZE = 224
#: One model of each family, the smallest that timm has.
MODELS = [
    "mobilenetv2_100",
    "mobilenetv3_small_100",
    "mobilenetv4_conv_small",
    "efficientnet_b0",
    "tf_efficientnet_lite0",
    "resnet18",
    "resnetv2_50",
    "regnety_002",
    "densenet121",
    "convnext_atto",
    "vgg11_bn",
    "inception_v4",
    "xception41",
    "dla34",
    "hrnet_w18_small",
    "ghostnet_100",
    "repvgg_a0",
    "nfnet_f0",
    "efficientformer_l1",
    "edgenext_xx_small",
    "mobilevit_xxs",
    "fastvit_t8",
    "levit_128s",
    "swin_tiny_patch4_window7_224",
    "swinv2_cr_tiny_224",
    "mambaout_femto",
    "vit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "deit3_small_patch16_224",
    "beit_base_patch16_224",
    "eva02_tiny_patch14_224",
    "cait_xxs24_224",
    "xcit_nano_12_p16_224",
    "crossvit_9_240",
    "coat_tiny",
    "twins_svt_small",
    "pvt_v2_b0",
    "poolformer_s12",
    "convit_tiny",
    "mixer_s32_224",
    "pit_ti_224",
    "tnt_s_patch16_224",
    "volo_d1_224",
    "maxvit_rmlp_pico_rw_256",
    "sequencer2d_s",
    "hiera_tiny_224",
    "davit_tiny",
    "focalnet_tiny_srf",
    "vit_medium_patch16_reg4_gap_256",
]
_PLAIN = "simclr"


@dataclass(frozen=True)
class Row:
    """One line of the table; ``error`` alone where the backbone cannot be used at all."""

    model: str
    difference: float = 0.0
    layout: MapLayout | str = ""
    maps: str = ""
    refused_by: tuple[str, ...] = ()
    error: str = ""

    def cells(self) -> list[str]:
        """Return the cells of the line, as text."""
        if self.error:
            return [self.model, "refused", "", "", "every method"]
        layout = self.layout
        shown = "none"
        if isinstance(layout, MapLayout):
            grid = "x".join(map(str, layout.grid))
            shown = f"{layout.channels} x {grid} ({layout.axes})"
        return [
            self.model,
            "yes" if self.difference < 1e-5 else f"off by {self.difference:.1e}",
            shown,
            self.maps,
            ", ".join(self.refused_by) or "none",
        ]


def tree(model: str) -> dict[str, Any]:
    """Return the settings that build the model from scratch."""
    return {"encoder": {"name": model, "pretrained": False}, "data": {"img_size": SIZE}}


def pooled_difference(encoder: Encoder) -> float:
    """Return the largest difference to plain timm's pooled features, relative to their size."""
    backbone = encoder.backbone
    gray = torch.rand(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    data = resolve_data_config(model=backbone)  # type: ignore[no-untyped-call]
    mean, std = (torch.tensor(data[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        plain = backbone((gray.repeat(1, 3, 1, 1) - mean) / std)
        ours = encoder(gray, torch.ones(1, SIZE, SIZE, dtype=torch.bool)).pooled
    if plain.shape != ours.shape:  # timm's own head widens once more
        plain = backbone.forward_head(backbone.forward_features((gray - mean) / std), True)
    return float((ours - plain).abs().max() / plain.abs().max().clamp_min(1e-12))


def row(model: str) -> Row:
    """Try one model with everything."""
    torch.manual_seed(0)
    try:
        encoder = method_of(configure(_PLAIN, tree(model))).encoder().eval()
    except ConfigError as error:
        return Row(model, error=error.problem)
    try:
        maps = {"rollout": "attention rollout", "grad-cam": "Grad-CAM"}[map_kind(encoder)]
    except ConfigError:
        maps = "none"
    refused = []
    for name, method in all_methods().items():
        if method.pretrains and name != _PLAIN:
            try:
                method_of(configure(name, tree(model))).check()
            except ConfigError:
                refused.append(name)
    return Row(model, pooled_difference(encoder), encoder.layout, maps, tuple(refused))


def table(lines: list[str]) -> str:
    """Return the Markdown table."""
    head = ["timm model", "pooled equals timm", "map (layout)", "explained by", "refused by"]
    top = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head))]
    return "\n".join([*top, *lines])


def main() -> None:
    """Write the table between the marks of the page."""
    warnings.simplefilter("ignore")
    page, wanted = Path(sys.argv[1]), set(sys.argv[2:] or MODELS)
    text = page.read_text()
    begin, end = "<!-- table -->\n", "\n<!-- end of table -->"
    before, rest = text.split(begin)
    old, after = rest.split(end)
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in old.splitlines()[2:]}
    for model in MODELS:
        if model in wanted:
            lines[model] = f"| {' | '.join(row(model).cells())} |"
            print(lines[model], flush=True)
            known = [lines[name] for name in MODELS if name in lines]
            page.write_text(f"{before}{begin}{table(known)}{end}{after}")


if __name__ == "__main__":
    main()
