"""Exports a trained encoder or classifier: plain timm, TorchScript, ONNX, or a hub folder.

Every export is checked against the original on images before it is called done; the largest
difference is returned. The command is `medsgssl export RUN --to timm --out FOLDER`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from huggingface_hub import HfApi
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from medsgssl.errors import CheckpointError, ConfigError
from medsgssl.inference.bundle import MODEL_FILE, SETTINGS_FILE, Bundle
from medsgssl.models.classifier import KNNClassifier
from medsgssl.models.encoder import Encoder
from medsgssl.models.hub import find_hub_model
from medsgssl.utils.io import atomic_path, write_json, write_text

Target = Literal["timm", "torchscript", "onnx", "hf"]
TARGETS: tuple[Target, ...] = ("timm", "torchscript", "onnx", "hf")
#: A larger difference than this between the original and its export is an error.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        path: File or folder.
        difference: Largest absolute difference from the original over the images of the check.
        images: Number of images of the check.
        usage: Lines of Python that load it.
        dropped: Names of parameters that the target cannot hold.
    """

    path: Path
    difference: float
    images: int
    usage: str
    dropped: tuple[str, ...] = ()


class Probabilities(nn.Module):
    """A classifier as one graph: uint8 views in, calibrated probabilities out.

    Args:
        bundle: The classifier.

    The input is ``images`` (B, 1, S, S) uint8, letterboxed as in training, and, for encoders that
    look at masks, ``masks`` (B, S, S) bool.
    """

    temperatures: Tensor

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.encoder, self.head = bundle.classifier.encoder, bundle.classifier.head
        values = [bundle.temperatures.get(name, 1.0) for name in bundle.classes]
        self.register_buffer("temperatures", torch.tensor(values))

    def forward(self, images: Tensor, masks: Tensor | None = None) -> Tensor:
        """Return (B, C) float32 probabilities."""
        if masks is None:
            masks = torch.ones_like(images[:, 0], dtype=torch.bool)
        pooled = self.encoder(images.float() / 255, masks).pooled
        return torch.sigmoid(self.head(pooled).float() / self.temperatures)


def export_model(
    bundle: Bundle,
    to: Target,
    out: Path,
    views: Tensor,
    masks: Tensor,
    drop_extras: bool = False,
) -> Exported:
    """Write a trained model for use without medsgssl, and compare both on images.

    Args:
        bundle: The classifier.
        to: ``timm``: the encoder alone, a folder or a ``.safetensors`` file; ``torchscript`` and
            ``onnx``: a file with probabilities; ``hf``: a folder for a model hub.
        out: File or folder; it must not hold anything else.
        views: (N, 1, S, S) uint8 views for the check.
        masks: (N, S, S) bool masks of these views.
        drop_extras: Leave out parameters that plain timm cannot hold (gates, anatomy biases).

    Raises:
        ConfigError: The target cannot hold the model, or a package is missing.
        CheckpointError: The export differs from the original by more than ``TOLERANCE``.
    """
    if to != "timm" and isinstance(bundle.classifier, KNNClassifier) and to != "hf":
        raise ConfigError(
            f"a k-NN classifier cannot be exported to {to}", "export its encoder with --to timm"
        )
    write = {"timm": _timm, "torchscript": _torchscript, "onnx": _onnx, "hf": _hub}[to]
    done = write(bundle, out, views, masks, drop_extras)
    if not done.difference <= TOLERANCE:
        raise CheckpointError(
            f"{done.path} differs from the original by up to {done.difference:.2g}",
            "do not use it; report this with the versions that `medsgssl doctor` prints",
        )
    return done


def extra_parameters(encoder: Encoder) -> list[str]:
    """Return the names of parameters that the plain timm backbone does not have."""
    return [name for name in encoder.state_dict() if not name.startswith("backbone.")]


def backbone_inputs(encoder: Encoder, views: Tensor, masks: Tensor) -> Tensor:
    """Return what the backbone itself is given, (N, 3 or 4, S, S) float32.

    These are the normalized views, with the mask as a last channel where it takes one.

    Args:
        encoder: The encoder.
        views: (N, 1, S, S) uint8.
        masks: (N, S, S) bool.
    """
    inputs = encoder.normalize(views.float() / 255)
    if first_channels(encoder.backbone) > inputs.shape[1]:
        inputs = torch.cat([inputs, masks[:, None].float()], dim=1)
    return inputs


def first_channels(backbone: nn.Module) -> int:
    """Return the number of input channels of a backbone's first convolution."""
    first = next(module for module in backbone.modules() if isinstance(module, nn.Conv2d))
    return first.in_channels


def timm_usage(bundle: Bundle, file: str) -> str:
    """Return the lines of Python that load the exported encoder with plain timm."""
    backbone = bundle.classifier.encoder.backbone
    options = "".join(f", {key}={value!r}" for key, value in _options(bundle).items())
    config = backbone.pretrained_cfg
    return (
        "import timm\n"
        f'model = timm.create_model("{_architecture(bundle)}", num_classes=0{options},\n'
        f'                          checkpoint_path="{file}").eval()\n'
        f"# input: gray image repeated to three channels, mean {tuple(config['mean'])}, "
        f"std {tuple(config['std'])}"
    )


def _architecture(bundle: Bundle) -> str:
    """Return the name of the network in timm."""
    hub = find_hub_model(bundle.config.encoder.name)
    return bundle.config.encoder.name if hub is None else hub.architecture


def _options(bundle: Bundle) -> dict[str, Any]:
    backbone, settings = bundle.classifier.encoder.backbone, bundle.config.encoder
    hub = find_hub_model(settings.name)
    options: dict[str, Any] = dict(hub.model_args) if hub is not None else {}
    if first_channels(backbone) != len(bundle.classifier.encoder.mean):
        options["in_chans"] = first_channels(backbone)
    if hasattr(backbone, "patch_embed") and getattr(backbone.patch_embed, "img_size", None):
        options["img_size"] = bundle.config.data.img_size
    if settings.patch_size is not None:
        options["patch_size"] = settings.patch_size
    return options


def _timm(bundle: Bundle, out: Path, views: Tensor, masks: Tensor, drop_extras: bool) -> Exported:
    encoder = bundle.classifier.encoder
    extras = extra_parameters(encoder)
    if extras and not drop_extras:
        raise ConfigError(
            f"plain timm cannot hold {len(extras)} parameters of {bundle.config.method_name}: "
            + ", ".join(extras[:8]),
            "give --drop-extras to leave them out (features then differ), or export --to hf",
        )
    state = {name: value.contiguous() for name, value in encoder.backbone.state_dict().items()}
    single = out.suffix == ".safetensors"
    file = out if single else out / MODEL_FILE
    if not single:
        out.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as temporary:
        save_file(state, temporary)
    usage = timm_usage(bundle, str(file))
    if not single:
        write_json(out / "config.json", _timm_config(bundle))
        write_text(out / "README.md", _readme(bundle, usage))
    model = timm.create_model(
        _architecture(bundle), num_classes=0, checkpoint_path=str(file), **_options(bundle)
    ).eval()
    inputs = backbone_inputs(encoder, views, masks)
    with torch.inference_mode():
        plain = encoder.features(inputs).pooled
        ours = plain if extras else encoder(views.float() / 255, masks).pooled
        theirs = model(inputs)
    return Exported(out, _largest(ours, theirs), len(views), usage, tuple(extras))


def _timm_config(bundle: Bundle) -> dict[str, object]:
    backbone = bundle.classifier.encoder.backbone
    data = {
        key: value
        for key, value in backbone.pretrained_cfg.items()
        if key in ("mean", "std", "interpolation", "first_conv", "classifier", "pool_size")
    }
    size = bundle.config.data.img_size
    channels = _options(bundle).get("in_chans", 3)
    return {
        "architecture": _architecture(bundle),
        "num_classes": 0,
        "num_features": int(bundle.classifier.encoder.num_features),
        "pretrained_cfg": {**data, "input_size": [channels, size, size], "num_classes": 0},
        "model_args": _options(bundle),
    }


def _torchscript(
    bundle: Bundle, out: Path, views: Tensor, masks: Tensor, drop_extras: bool
) -> Exported:
    del drop_extras
    model = Probabilities(bundle).eval()
    inputs = (views, masks) if bundle.classifier.encoder.needs_masks else (views,)
    with torch.inference_mode():
        wanted = model(*inputs)
    with torch.no_grad():
        traced = torch.jit.trace(model, inputs, check_trace=False)  # type: ignore[no-untyped-call]
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as temporary:
        torch.jit.save(traced, str(temporary))
    with torch.inference_mode():
        probabilities = torch.jit.load(str(out))(*inputs)  # type: ignore[no-untyped-call]
    call = "images, masks" if len(inputs) == 2 else "images"
    usage = (
        f'import torch\nmodel = torch.jit.load("{out}")\nprobabilities = model({call})\n'
        + _inputs_in_words(bundle, "tensor")
    )
    return Exported(out, _largest(wanted, probabilities), len(views), usage)


def _onnx(bundle: Bundle, out: Path, views: Tensor, masks: Tensor, drop_extras: bool) -> Exported:
    del drop_extras
    try:
        import onnx  # noqa: PLC0415 - an extra
        import onnxruntime  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            f"ONNX export needs the package {error.name}", "run `pip install 'medsgssl[onnx]'`"
        ) from error
    model = Probabilities(bundle).eval()
    needs_masks = bundle.classifier.encoder.needs_masks
    inputs = (views, masks) if needs_masks else (views,)
    names = ["images", "masks"][: len(inputs)]
    batch = torch.export.Dim("batch", min=1, max=4096)
    out.parent.mkdir(parents=True, exist_ok=True)
    with torch.inference_mode():
        wanted = model(*inputs)
    with atomic_path(out) as temporary:
        torch.onnx.export(
            model,
            inputs,
            str(temporary),
            input_names=names,
            output_names=["probabilities"],
            dynamic_shapes={name: {0: batch} for name in names},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        graph = onnx.load(str(temporary))
        onnx.helper.set_model_props(
            graph, {"classes": json.dumps(bundle.classes), "preprocessing": preprocessing(bundle)}
        )
        onnx.save(graph, str(temporary))
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    feed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    probabilities = torch.from_numpy(session.run(["probabilities"], feed)[0])
    usage = (
        "import onnxruntime\n"
        f'session = onnxruntime.InferenceSession("{out}")\n'
        'probabilities = session.run(["probabilities"], '
        + f"{{{', '.join(f'{json.dumps(name)}: {name}' for name in names)}}})[0]\n"
        + _inputs_in_words(bundle, "array")
    )
    return Exported(out, _largest(wanted, probabilities), len(views), usage)


def _hub(bundle: Bundle, out: Path, views: Tensor, masks: Tensor, drop_extras: bool) -> Exported:
    del drop_extras
    out.mkdir(parents=True, exist_ok=True)
    with atomic_path(out / MODEL_FILE) as temporary:
        temporary.write_bytes(bundle.origin.read_bytes())
    write_json(out / SETTINGS_FILE, bundle.settings())
    write_json(out / "config.json", _timm_config(bundle) | {"labels": list(bundle.classes)})
    usage = f'import medsgssl\npredictor = medsgssl.Predictor.load("{out}")'
    write_text(out / "README.md", _readme(bundle, usage))
    stored, ours = load_file(out / MODEL_FILE), bundle.classifier.state_dict()
    difference = max(_largest(ours[name].cpu().float(), stored[name].float()) for name in ours)
    return Exported(out, difference, len(views), usage)


def _inputs_in_words(bundle: Bundle, kind: str) -> str:
    """Return comments that say what an exported graph is given."""
    size = bundle.config.data.img_size
    text = f"# images: uint8 {kind} (N, 1, {size}, {size}), gray, letterboxed"
    if bundle.classifier.encoder.needs_masks:
        text += f"; masks: bool {kind} (N, {size}, {size}), True inside the lungs"
    classes = ", ".join(bundle.classes)
    return f"{text}\n# probabilities: (N, {len(bundle.classes)}), in the order {classes}"


def preprocessing(bundle: Bundle) -> str:
    """Return in words what must happen to an image before it enters an exported graph."""
    size = bundle.config.data.img_size
    text = (
        "8-bit gray, bright = dense; deeper images mapped linearly from their 0.1 and 99.9 "
        f"percentiles; aspect kept, longer side scaled to {size} pixels (area interpolation, "
        f"halved first while at least four times as large), centered on black {size} x {size}; "
        f"uint8 (B, 1, {size}, {size})"
    )
    if bundle.config.method_name == "guided-crop":
        text += "; then the box of both lungs, as `medsgssl.Predictor` cuts it"
    return text


def _readme(bundle: Bundle, usage: str) -> str:
    config = bundle.config
    return (
        "---\nlibrary_name: timm\ntags: [chest-x-ray, self-supervised]\n---\n\n"
        f"# {config.method_name}, {config.encoder.name}\n\n"
        "Trained with medsgssl. **Research use only; not a medical device.**\n\n"
        f"- method: `{config.method_name}`"
        f"{' (no pretraining)' if config.no_pretrain else ''}\n"
        f"- image size: {config.data.img_size}\n"
        f"- classes: {', '.join(bundle.classes)}\n"
        f"- input: {preprocessing(bundle)}\n\n"
        f"```python\n{usage}\n```\n"
    )


def _largest(a: Tensor, b: Tensor) -> float:
    return float((a.float() - b.float()).abs().max())


def push_to_hub(folder: Path, repository: str) -> str:
    """Upload an exported hub folder; the repository is created where it does not exist.

    Args:
        folder: Written by ``export_model(..., "hf", ...)``.
        repository: ``USER/NAME``.

    Returns:
        The address of the upload.

    Raises:
        ConfigError: The hub cannot be reached or refuses the upload.
    """
    api = HfApi()
    try:
        api.create_repo(repository, exist_ok=True, private=True)
        return str(api.upload_folder(repo_id=repository, folder_path=folder))
    except Exception as error:
        # The client fails by its own errors, those of its HTTP library, and those of JSON.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"the upload to {repository} failed: {reason}",
            "log in with `hf auth login`, and check the name and the network; the folder stays",
        ) from error
