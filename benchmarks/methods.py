"""Time a pretraining step of every method against SimCLR, side by side in one process.

Each method runs with its own defaults (backbone, views, teacher), from scratch, on made-up images:
rendering of the views, forward and backward pass. In each round SimCLR is timed right before the
method, and the median of the rounds' ratios counts, because other processes and the clock of the
processor disturb single times. `medsgssl methods` shows the ratios that --write keeps.

Run: python benchmarks/methods.py [--size 224] [--batch 8] [--rounds 3] [--write]
"""

from __future__ import annotations

import argparse
import platform
import statistics

import torch

from medsgssl.methods.registry import CONTROL, COSTS, all_methods, configure
from medsgssl.study.timings import seconds_per_image
from medsgssl.utils.io import write_json


def main() -> None:
    """Print seconds per image and the ratio to SimCLR."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=224, help="side of a view in pixels")
    parser.add_argument("--batch", type=int, default=8, help="images per step")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of every method")
    parser.add_argument("--write", action="store_true", help="keep the ratios in the package")
    given = parser.parse_args()
    names = [name for name, method in all_methods().items() if method.pretrains]
    tree = {"data": {"img_size": given.size, "batch_size": given.batch}}
    control = configure(CONTROL, tree)
    seconds: dict[str, float] = {}
    ratios = {CONTROL: 1.0}
    for name in names:
        pairs = [
            tuple(
                seconds_per_image(config, "pretrain") for config in (control, configure(name, tree))
            )
            for _ in range(given.rounds)
        ]
        seconds[name] = min(own for _, own in pairs)
        if name != CONTROL:
            ratios[name] = statistics.median(own / other for other, own in pairs)
    for name in sorted(names, key=ratios.__getitem__):
        print(f"{name:26s} {seconds[name]:8.3f} s/image  {ratios[name]:6.2f} x {CONTROL}")
    if given.write:
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
        write_json(
            COSTS,
            {
                "img_size": given.size,
                "batch_size": given.batch,
                "device": device,
                "machine": platform.machine(),
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
                "ratios": {name: round(ratio, 2) for name, ratio in ratios.items()},
            },
        )


if __name__ == "__main__":
    main()
