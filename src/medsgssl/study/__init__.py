"""Studies: many runs planned, done, and compared from their result files alone."""

from medsgssl.study.analysis import Analysis, analyse
from medsgssl.study.collect import run_folders
from medsgssl.study.estimate import Estimate, estimate
from medsgssl.study.look import look, look_all
from medsgssl.study.plan import PlannedRun, StudyPlan
from medsgssl.study.planning import make_ablation, make_plan
from medsgssl.study.report import write_study_report
from medsgssl.study.run import Outcome, run_study

__all__ = [
    "Analysis",
    "Estimate",
    "Outcome",
    "PlannedRun",
    "StudyPlan",
    "analyse",
    "estimate",
    "look",
    "look_all",
    "make_ablation",
    "make_plan",
    "run_folders",
    "run_study",
    "write_study_report",
]
