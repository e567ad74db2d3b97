"""Training: one loop for pretraining and fine-tuning, exact when resumed.

``trainer.py`` is the loop, ``pretraining.py`` and ``finetuning.py`` its two uses, ``checkpoint.py``
what they resume from, ``lr_schedule.py`` and ``optim.py`` how they step.
"""
