"""Loss functions: pure equations on tensors, each with its source."""
