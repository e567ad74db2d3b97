"""The encoder: a timm backbone for gray images, and ONE reading of whatever timm returns."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.data import resolve_data_config  # type: ignore[attr-defined]
from torch import Tensor, nn

from medsgssl.config.schema import EncoderSettings
from medsgssl.errors import ConfigError
from medsgssl.models.backbone import build_backbone

#: A last map with fewer cells per side tells hardly any region of the chest from another.
SMALLEST_GRID = 4


@dataclass(frozen=True)
class MapLayout:
    """Where the cells of a map lie in what a backbone or one of its stages returns.

    Attributes:
        axes: ``NCHW``, ``NHWC`` (channels last) or ``NLC`` (tokens).
        grid: Height and width of the map in cells, at the size that was tried.
        channels: Channels of a cell.
        prefix: Tokens before those of the cells (class token, registers).
    """

    axes: str
    grid: tuple[int, int]
    channels: int
    prefix: int = 0

    def as_map(self, output: Tensor) -> Tensor:
        """Return the map (B, C, h, w) that an output holds."""
        if self.axes == "NCHW":
            return output
        if self.axes == "NHWC":
            return output.permute(0, 3, 1, 2)
        tokens = output[:, self.prefix :].transpose(1, 2)
        return tokens.reshape(*tokens.shape[:2], *self._grid_of(tokens.shape[2]))

    def scale(self, output: Tensor, factors_BHW: Tensor) -> Tensor:
        """Return the output with the cells of its map multiplied by ``factors_BHW``."""
        if self.axes == "NCHW":
            return output * factors_BHW[:, None]
        if self.axes == "NHWC":
            return output * factors_BHW[..., None]
        cells = output[:, self.prefix :] * factors_BHW.flatten(1)[..., None]
        return torch.cat([output[:, : self.prefix], cells], dim=1)

    def _grid_of(self, count: int) -> tuple[int, int]:
        # Images of another size than the one that was tried are square.
        if count == self.grid[0] * self.grid[1]:
            return self.grid
        return (math.isqrt(count), math.isqrt(count))


@dataclass
class Features:
    """What an encoder returns.

    Attributes:
        pooled: (B, D), the backbone's own pooled features.
        last: The backbone's last output as it is; ``pooled`` is computed from it.
        layout: Where the map lies in ``last``; a text that says why there is none.
        extra: Whatever a method's own input path hands to its task, by name.
    """

    pooled: Tensor
    last: Tensor
    layout: MapLayout | str
    extra: dict[str, Tensor] = field(default_factory=dict)

    @property
    def spatial(self) -> Tensor:
        """The last map, or the grid of patch tokens, (B, C, h, w).

        Raises:
            ConfigError: The backbone has none.
        """
        return required_map(self.layout).as_map(self.last)


def required_map(layout: MapLayout | str) -> MapLayout:
    """Return the layout, or refuse a backbone that has no map.

    Raises:
        ConfigError: There is no map.
    """
    if isinstance(layout, str):
        raise ConfigError(
            f"this needs a backbone with a map of features: {layout}",
            "set encoder.name to a CNN or vision transformer, e.g. mobilenetv2_100",
        )
    return layout


class Encoder(nn.Module):
    """A timm backbone that takes gray images in [0, 1] and normalizes them itself.

    The gray level is repeated to the backbone's own channels and normalized per channel with the
    constants of its timm data config, as timm does with a gray image file. So the features equal
    those of plain timm, and the weights below ``backbone.`` are timm's own.

    One image is tried when the encoder is built: what timm returns for it decides the number of
    features and the layout of the map.

    Subclasses that let a mask into the network override ``forward``.

    Args:
        backbone: A timm model without classifier.
        size: Side of the images in pixels; the backbone's own when not given.

    Raises:
        ConfigError: The backbone cannot take images of this size, or does not return one vector
            per image.
    """

    #: Whether ``forward`` uses the masks: then fine-tuning and test need them too.
    needs_masks = False
    #: Whether ``forward`` listens to a stage inside the backbone.
    hooks_backbone = False

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, size: int | None = None) -> None:
        super().__init__()
        # timm's models share an interface that no type declares.
        self.backbone: Any = backbone
        data = resolve_data_config(model=backbone)  # type: ignore[no-untyped-call]
        for key in ("mean", "std"):
            constants = torch.tensor(data[key]).view(-1, 1, 1)
            self.register_buffer(key, constants, persistent=False)
        own_size = getattr(getattr(backbone, "patch_embed", None), "img_size", None)
        self.size = size or int((own_size or data["input_size"])[-1])
        last, pooled = self._try_one_image()
        self.num_features = int(pooled.shape[1])
        self.layout = find_layout(backbone, last, self._tried())

    @property
    def is_vit(self) -> bool:
        """Whether the backbone is a transformer over tokens."""
        return isinstance(self.layout, MapLayout) and self.layout.axes == "NLC"

    @property
    def map_channels(self) -> int:
        """Channels of the last map.

        Raises:
            ConfigError: The backbone has no map.
        """
        return required_map(self.layout).channels

    def normalize(self, images: Tensor) -> Tensor:
        """Return images (B, 1, S, S) in [0, 1] as the backbone expects them, (B, 3, S, S)."""
        return (images - self.mean) / self.std

    def forward(self, images: Tensor, masks: Tensor, quality: Tensor | None = None) -> Features:
        """Encode a batch.

        Args:
            images: (B, 1, S, S) float in [0, 1].
            masks: (B, S, S) bool; not used here.
            quality: How far each mask can be trusted, (B,) in [0, 1]; None: fully. Not used here.
        """
        return self.features(self.normalize(images))

    def features(self, inputs: Tensor) -> Features:
        """Run the backbone on normalized inputs (B, C, S, S)."""
        return self.pool(self.backbone.forward_features(inputs))

    def pool(self, last: Tensor) -> Features:
        """Turn the backbone's last map or tokens into ``Features``."""
        pooled = self.backbone.forward_head(last, pre_logits=True)
        return Features(pooled, last, self.layout)

    def _tried(self) -> Tensor:
        """Return the one image that is tried, as the backbone takes it."""
        device = next(self.backbone.parameters()).device
        blank = torch.zeros(1, 1, self.size, self.size, device=device)
        return (blank - self.mean.to(device)) / self.std.to(device)

    def _try_one_image(self) -> tuple[Any, Tensor]:
        name, size = type(self.backbone).__name__, self.size
        fix = "choose another encoder.name or data.img_size"
        try:
            with torch.no_grad(), in_eval_mode(self.backbone):
                last = self.backbone.forward_features(self._tried())
                pooled = self.backbone.forward_head(last, pre_logits=True)
        except Exception as error:
            raise ConfigError(
                f"{name} cannot take images of {size} pixels: {error}", fix
            ) from error
        if not isinstance(pooled, Tensor) or pooled.ndim != 2:
            raise ConfigError(f"{name} does not return one vector per image", fix)
        return last, pooled


class in_eval_mode:  # noqa: N801
    """Context in which a module is in eval mode; every part gets its own mode back."""

    def __init__(self, module: nn.Module) -> None:
        self._modes = [(part, part.training) for part in module.modules()]
        self._module = module

    def __enter__(self) -> None:
        self._module.eval()

    def __exit__(self, *_: object) -> None:
        for part, mode in self._modes:
            part.training = mode


def find_layout(backbone: Any, last: Any, inputs: Tensor) -> MapLayout | str:
    """Return where the map lies in a backbone's last output, or a text that says why it has none.

    Args:
        backbone: A timm model.
        last: What its ``forward_features`` returned for one image.
        inputs: That image, (1, C, S, S) normalized.
    """
    name, channels = type(backbone).__name__, int(backbone.num_features)
    if not isinstance(last, Tensor):
        return f"{name} returns several outputs"
    if last.ndim == 4:
        return layout_of_map(last, channels, getattr(backbone, "output_fmt", None)) or (
            f"the output of {name}, {tuple(last.shape)}, holds no {channels} channels"
        )
    grid = _token_grid(backbone, inputs) if last.ndim == 3 else None
    if grid is None or last.shape[1] < grid[0] * grid[1]:
        return f"the output of {name}, {tuple(last.shape)}, holds no grid of tokens"
    return MapLayout("NLC", grid, int(last.shape[2]), last.shape[1] - grid[0] * grid[1])


def layout_of_map(output: Tensor, channels: int, declared: str | None) -> MapLayout | None:
    """Return the layout of a 4-d output, or None where no axis has so many channels.

    Args:
        output: (1, C, h, w) or (1, h, w, C).
        channels: C.
        declared: timm's ``output_fmt``, which decides where both could be.
    """
    _, a, b, c = output.shape
    if c == channels and (declared == "NHWC" or a != channels):
        return MapLayout("NHWC", (a, b), channels)
    return MapLayout("NCHW", (b, c), channels) if a == channels else None


def _token_grid(backbone: Any, inputs: Tensor) -> tuple[int, int] | None:
    """Return height and width of the grid of tokens, as timm itself lays it out."""
    try:
        with torch.no_grad(), in_eval_mode(backbone):
            maps = backbone.forward_intermediates(
                inputs, indices=1, output_fmt="NCHW", intermediates_only=True
            )
    except Exception:  # noqa: BLE001  timm's models fail in many ways where they have no grid
        return None
    return (int(maps[-1].shape[2]), int(maps[-1].shape[3]))


def build_encoder(settings: EncoderSettings, img_size: int) -> Encoder:
    """Return the plain encoder: gray image in, pooled features out.

    Raises:
        ConfigError: The backbone does not exist or does not take such images.
        CheckpointError: The weights file is of another model.
    """
    return Encoder(build_backbone(settings, img_size), img_size)
