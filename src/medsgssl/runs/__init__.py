"""The run folder: what a run leaves behind, and which stages are complete."""
