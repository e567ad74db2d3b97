"""Studies: many runs planned, done, and compared from their result files alone."""

from medsgssl.study.estimate import Estimate, estimate
from medsgssl.study.plan import PlannedRun, StudyPlan, make_plan
from medsgssl.study.run import Outcome, run_study

__all__ = [
    "Estimate",
    "Outcome",
    "PlannedRun",
    "StudyPlan",
    "estimate",
    "make_plan",
    "run_study",
]
