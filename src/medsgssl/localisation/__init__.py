"""Localisation: where a classifier looks, against boxes and lungs."""

from medsgssl.localisation.localise import Looked, localise
from medsgssl.localisation.maps import attention_rollout, grad_cam, saliency
from medsgssl.localisation.scores import BoxScores, box_mask, energy_inside, score_box

__all__ = [
    "BoxScores",
    "Looked",
    "attention_rollout",
    "box_mask",
    "energy_inside",
    "grad_cam",
    "localise",
    "saliency",
    "score_box",
]
