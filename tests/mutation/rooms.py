"""What is mutated in each room, and the tests that should notice."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.operators import Mutant, mutants_of

ROOT = Path(__file__).parents[2]
_SOURCE = "src/medsgssl"


@dataclass(frozen=True)
class Room:
    """Files, their tests, and how many mutants are drawn of them.

    Attributes:
        files: Patterns below the package.
        tests: Files and folders of tests.
        sample: How many mutants are drawn; None for all.
        without: Names of files that are left out.
    """

    files: tuple[str, ...]
    tests: tuple[str, ...]
    sample: int | None = None
    without: tuple[str, ...] = ("__init__.py",)

    def every(self) -> list[Mutant]:
        """Return all mutants of the room in the order of their files."""
        paths = sorted(
            path
            for pattern in self.files
            for path in (ROOT / _SOURCE).glob(pattern)
            if path.name not in self.without
        )
        return [m for path in paths for m in mutants_of(ROOT, str(path.relative_to(ROOT)))]

    def digest(self) -> str:
        """Return what tells one state of the tests from another."""
        digest = hashlib.sha256()
        for test in self.tests:
            path = ROOT / test
            for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
                digest.update(file.read_bytes())
        return digest.hexdigest()[:12]

    def mutants(self) -> list[Mutant]:
        """Return those that are tried: all, or the drawn ones.

        Drawn are those whose names have the smallest hashes: the first of them are a sample too,
        and a change of the code draws no others in its place.
        """
        every = self.every()
        if self.sample is None:
            return every
        every.sort(key=lambda mutant: hashlib.sha256(mutant.key.encode()).digest())
        return every[: self.sample]


# Without those that repeat every method on many backbones: they notice what these notice.
_METHOD_TESTS = tuple(
    f"tests/methods/{path.name}"
    for path in sorted((ROOT / "tests" / "methods").glob("test_*.py"))
    if path.name not in ("test_backbones.py", "test_contract.py", "test_learning_from_scratch.py")
)
ROOMS = {
    "losses": Room(
        ("losses/*.py", "models/anatomy_vit.py", "methods/anatomy_masked_attention.py"),
        (
            "tests/losses",
            "tests/models/test_anatomy_vit.py",
            "tests/ops/test_regions.py",
            "tests/ops/test_regions_distributed.py",
            "tests/methods/test_anatomy_masked_attention.py",
            "tests/methods/test_logged_values.py",
            "tests/methods/test_multi_region.py",
            "tests/methods/test_settings.py",
            "tests/methods/test_attention_prior.py",
        ),
    ),
    "methods": Room(
        ("methods/*.py",),
        _METHOD_TESTS,
        None,
        # How methods are found and listed is no arithmetic; option 7 is in the room of the losses.
        ("__init__.py", "registry.py", "index.py", "names.py", "anatomy_masked_attention.py"),
    ),
    "ops": Room(("ops/*.py",), ("tests/ops", "tests/models/test_lung_norms.py", *_METHOD_TESTS)),
    "transforms": Room(
        ("transforms/*.py",),
        ("tests/transforms", "tests/methods/test_frames.py", "tests/methods/test_guided_crop.py"),
    ),
    "evaluation": Room(
        ("evaluation/*.py",),
        ("tests/evaluation",),
        # The statistics: what reads, writes and registers files is left out.
        without=("__init__.py", "evaluate.py", "metric_registry.py", "predictions.py"),
    ),
}
