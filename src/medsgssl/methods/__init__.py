"""Methods: one file each; see ``base`` for the seam."""

from medsgssl.methods.base import Method, Part, Task, TaskOutput
from medsgssl.methods.registry import all_methods, configure, find_method, method_of, register

__all__ = [
    "Method",
    "Part",
    "Task",
    "TaskOutput",
    "all_methods",
    "configure",
    "find_method",
    "method_of",
    "register",
]
