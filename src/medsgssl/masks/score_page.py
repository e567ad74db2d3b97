"""What a scoring leaves: figures as JSON and CSV, the worst overlays, quality against Dice."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure as Plot

from medsgssl import sources
from medsgssl.files import atomic_path, write_json, write_text
from medsgssl.masks.overlay import Figure, draw_overlay, page
from medsgssl.masks.score import GOOD_DICE, Scores, find_pairs, scored_images

WORST = 20


def write_scores(scores: Scores, images: Path, references: Path, out: Path) -> None:
    """Write ``scores.json``, ``scores.csv``, ``worst.html`` and ``quality.png``.

    Args:
        scores: The scores of a recipe on these folders.
        images: Folder of the images.
        references: Folder of the reference masks.
        out: Folder to write to; created.
    """
    write_json(out / "scores.json", scores.summary())
    write_text(out / "scores.csv", scores.table.to_csv(index=False))
    write_text(out / "worst.html", _worst_page(scores, images, references))
    with atomic_path(out / "quality.png") as temporary:
        plot_quality(scores).savefig(temporary, format="png", dpi=120)


def plot_quality(scores: Scores) -> Plot:
    """Return the plot of quality against Dice, one dot per image."""
    figure = Plot(figsize=(5.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for status, group in scores.table.groupby("status"):
        axes.scatter(group["quality"], group["dice"], s=14, alpha=0.6, label=str(status))
    axes.axhline(GOOD_DICE, color="grey", linewidth=0.8, linestyle="--")
    axes.set(xlabel="quality score", ylabel="Dice", xlim=(-0.02, 1.02), ylim=(0.0, 1.02))
    said = scores.summary()
    auc = said["quality_auc_dice_below_0.8"]
    told = "undefined" if auc is None else f"{auc:.3f}"
    axes.set_title(f"{said['images']} images, recipe {scores.recipe}: AUC {told}")
    axes.legend(title="status")
    return figure


def _worst_page(scores: Scores, images: Path, references: Path) -> str:
    worst = scores.table.nsmallest(WORST, "dice")["image_id"].tolist()
    pairs = {pair[0]: pair for pair in find_pairs(images, references)}
    figures = [
        Figure(
            draw_overlay(sources.read_image(scored.path), scored.mask, scored.reference),
            f"{scored.image_id}: Dice {scored.row()['dice']:.3f}",
            f"{scored.lungs.status}, quality {scored.lungs.quality:.2f}. {scored.lungs.reason}",
        )
        for scored in scored_images([pairs[image_id] for image_id in worst], scores.recipe)
    ]
    said = scores.summary()
    introduction = (
        f"The {len(figures)} lowest of {said['images']} images, recipe {scores.recipe}, mean Dice "
        f"{said['dice_mean']:.3f}. Cyan: the recipe; magenta: the reference."
    )
    return page("Lung masks against references", introduction, figures)
