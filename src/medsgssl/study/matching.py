"""Like with like: which arms may be judged against each other.

Arms may differ in the method, its masks and how its pretraining was tuned; network, image size,
frame, labels, fine-tuning and the number of views that pretraining sees must be the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from medsgssl.config.loading import FlatSettings, Settings, dump, flatten, nested
from medsgssl.config.schema import Config
from medsgssl.errors import ConfigError
from medsgssl.methods.registry import configure, find_method, method_of

# What an arm is: no question of likeness.
_IDENTITY: tuple[str, ...] = (
    "method_name",
    "no_pretrain",
    "method.",
    "masks.",
    "seed",
    "evaluate.",
)
_IDENTITY += ("data.label_fraction", "data.fold", "study.", "data.root", "data.cache_dir")
# May be tuned for each arm; named on the page where it differs.
_TUNED = ("lr", "weight_decay", "warmup_epochs", "freeze_epochs", "clip_grad", "backbone_lr_factor")
TUNED = tuple(f"pretrain.{name}" for name in _TUNED)
# Decide how a run computes or is watched, but nothing of its result that a reader would care for.
_TECHNICAL: tuple[str, ...] = (
    "precision",
    "accelerator",
    "devices",
    "num_nodes",
    "checkpoint_minutes",
)
_TECHNICAL += ("probe_every", "probe_images", "monitor_batches")
_TECHNICAL_KEYS = tuple(
    f"{stage}.{name}" for stage in ("pretrain", "finetune") for name in _TECHNICAL
)
#: Only pretraining looks at these.
PRETRAINING = ("pretrain.", "views.pretrain.", "data.extra_roots")
#: Settings under which a reader knows networks and frames apart, in this order.
TELLING = ("encoder.name", "views.frame", "data.img_size", "pretrain.epochs")


def views_seen(config: Config) -> int:
    """Return how many views of an image pretraining sees over all its epochs."""
    if config.no_pretrain:
        return 0
    return config.pretrain.epochs * len(method_of(config).pretrain_views())


def matched_settings(config: Config, control: str) -> FlatSettings:
    """Return the settings, by dotted key, that make another method comparable with a run's.

    Everything but the method itself is taken over; epochs of pretraining are those in which the
    control sees as many views.

    Args:
        config: Of the method that is to be judged.
        control: Name of the method that it will be judged against.
    """
    settings = {
        key: value for key, value in flatten(dump(config)).items() if not key.startswith(_IDENTITY)
    }
    if not config.no_pretrain and find_method(control).pretrains:
        per_epoch = len(method_of(configure(control)).pretrain_views())
        settings["pretrain.epochs"] = max(1, round(views_seen(config) / per_epoch))
    return settings


def differing(trees: Sequence[Settings]) -> list[str]:
    """Return the keys whose values are not the same in all of the settings, sorted."""
    keys = sorted({key for tree in trees for key in tree})
    return [key for key in keys if len({str(tree.get(key)) for tree in trees}) > 1]


def unlike(a: Settings, b: Settings) -> list[str]:
    """Return the keys that forbid a comparison: what differs beyond the method itself."""
    keys = [
        key
        for key in differing([a, b])
        if not key.startswith(_IDENTITY) and key not in (*TUNED, *_TECHNICAL_KEYS)
    ]
    if a.get("no_pretrain") or b.get("no_pretrain"):
        return [key for key in keys if not key.startswith(PRETRAINING)]
    if "pretrain.epochs" in keys or a.get("method_name") != b.get("method_name"):
        seen = [_views_of(tree) for tree in (a, b)]
        keys = [key for key in keys if key != "pretrain.epochs"]
        # Epochs are whole numbers, so the control may miss the budget by half an epoch.
        if None not in seen and abs(seen[0] - seen[1]) > 1:  # type: ignore[operator]
            keys.append("pretrain.epochs")
    return keys


def tuned_apart(a: Settings, b: Settings) -> list[str]:
    """Return the settings of pretraining that were tuned for each of two comparable arms."""
    return [key for key in differing([a, b]) if key in TUNED]


def _views_of(settings: Settings) -> int | None:
    """Return the views that a stored configuration sees, None for a method not installed here."""
    epochs = settings.get("pretrain.epochs")
    if epochs is None:
        return None
    name = str(settings.get("method_name"))
    method_settings = {key: value for key, value in settings.items() if key.startswith("method.")}
    try:
        config = configure(name, nested(method_settings | {"pretrain.epochs": epochs}))
    except ConfigError:
        return None
    return views_seen(config)
