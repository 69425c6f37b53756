"""Training: a loop, checkpoints, and one script a stage."""
