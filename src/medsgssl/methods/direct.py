"""Direct supervised training: the plain encoder, fine-tuned without any pretraining."""

from __future__ import annotations

from medsgssl.methods.base import Method
from medsgssl.methods.registry import register


@register
class Direct(Method):
    """The plain no-pretraining baseline: the whole image, the plain encoder, only fine-tuning."""

    name = "direct"
    summary = "Supervised training only: what every pretraining has to beat."
    citation = "Rajpurkar et al., CheXNet, arXiv 1711.05225, 2017"
    formula = (
        r"L = \frac{1}{|K|} \sum_{(b, c) \in K} "
        r"\text{loss}(s_{bc}, y_{bc})"
    )
    symbols = (
        "K: known labels of the batch; s: scores; y: labels; loss: the one that `finetune.loss` "
        "names."
    )
    uses_masks = False
