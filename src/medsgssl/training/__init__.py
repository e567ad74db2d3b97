"""Training: one loop for pretraining and fine-tuning, exact when resumed."""
