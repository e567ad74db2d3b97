"""The run folder: what a run leaves behind, and what of it is complete."""

from medsgssl.runs.folder import WITHOUT_EFFECT, RunFolder, StageName, by_name, flatten

__all__ = ["WITHOUT_EFFECT", "RunFolder", "StageName", "by_name", "flatten"]
