"""A decoder that crashes, in worker processes alone."""

from __future__ import annotations

import os
from pathlib import Path

CRASH = b"CRASH"
"""Files that end in this crash the decoder; formats ignore what follows their end."""

_CRASHING_DECODER = f"""
import os, signal
import cv2
decode = cv2.imdecode
def imdecode(content, flags):
    if content.tobytes().endswith({CRASH!r}):
        os.kill(os.getpid(), signal.SIGSEGV)
    return decode(content, flags)
cv2.imdecode = imdecode
"""


def python_path(folder: Path) -> str:
    """Write a decoder that crashes into a folder; return the PYTHONPATH under which it is used.

    Only interpreters that are started afterwards use it, not this process and what it forks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(_CRASHING_DECODER)
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
