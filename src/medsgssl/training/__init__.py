"""Training: one loop for pretraining and fine-tuning, exact when resumed."""

from medsgssl.training.checkpoint import load_weights, read_facts, save_weights
from medsgssl.training.classifier import Classifier
from medsgssl.training.devices import seed_step
from medsgssl.training.finetune import encoder_facts, finetune, labelled_rows
from medsgssl.training.predict import predict
from medsgssl.training.pretrain import pretrain

__all__ = [
    "Classifier",
    "encoder_facts",
    "finetune",
    "labelled_rows",
    "load_weights",
    "predict",
    "pretrain",
    "read_facts",
    "save_weights",
    "seed_step",
]
