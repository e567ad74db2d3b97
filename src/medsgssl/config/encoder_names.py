"""How ``encoder.name`` names a backbone: a model of timm, of a model hub, or of a local folder.

| form | what |
|---|---|
| ``resnet50``, ``resnet50.a1_in1k`` | a model of timm, with one of its weights |
| ``hf-hub:USER/NAME``, ``hf-hub:USER/NAME@REVISION`` | a repository of a hub, in timm's format |
| ``local-dir:FOLDER`` | a folder in timm's format: ``config.json`` beside ``model.safetensors`` |
"""

from __future__ import annotations

from pathlib import Path

HUB_PREFIX = "hf-hub:"
LOCAL_PREFIX = "local-dir:"


def hub_source(name: str) -> str | None:
    """Return ``HUB_PREFIX`` or ``LOCAL_PREFIX``, or None for a model of timm."""
    return next((prefix for prefix in (HUB_PREFIX, LOCAL_PREFIX) if name.startswith(prefix)), None)


def portable_encoder_name(name: str) -> str:
    """Return the name as weights carry it: of a local folder its last part alone."""
    if not name.startswith(LOCAL_PREFIX):
        return name
    return LOCAL_PREFIX + Path(name.removeprefix(LOCAL_PREFIX)).expanduser().absolute().name


def encoder_name_problem(name: str) -> str | None:
    """Return what is wrong with the form of a hub name or a folder's name, or None."""
    source = hub_source(name)
    if source == HUB_PREFIX:
        user, _, rest = name.removeprefix(HUB_PREFIX).partition("/")
        right = bool(user and rest) and "/" not in rest
        return None if right else "write it as hf-hub:USER/NAME"
    if source == LOCAL_PREFIX:
        folder = Path(name.removeprefix(LOCAL_PREFIX)).expanduser()
        right = (folder / "config.json").is_file()
        return None if right else f"{folder} is not a folder with a config.json in timm's format"
    if ":" in name:
        return f"use a timm model, {HUB_PREFIX}USER/NAME or {LOCAL_PREFIX}FOLDER"
    if "/" not in name:
        return None
    folder_there = Path(name).expanduser().is_dir()
    return f"did you mean {LOCAL_PREFIX if folder_there else HUB_PREFIX}{name}?"
