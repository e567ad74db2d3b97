"""Views: one affine per view moves image and mask together; batches are pure functions of seeds."""

from medsgssl.views.batch import ViewBatch
from medsgssl.views.crops import CropRule, RandomCrop, WholeImage, draw_pose, draw_shape
from medsgssl.views.geometry import Crop, box_crop, warp_image, warp_mask, whole
from medsgssl.views.loader import ViewSteps, load_steps
from medsgssl.views.order import EpochOrder
from medsgssl.views.paint import paint_map
from medsgssl.views.photometry import photometric
from medsgssl.views.plan import View, ViewPlan, ViewSpec, make_view
from medsgssl.views.source import JoinedSource, StepSource, ViewSource

__all__ = [
    "Crop",
    "CropRule",
    "EpochOrder",
    "JoinedSource",
    "RandomCrop",
    "StepSource",
    "View",
    "ViewBatch",
    "ViewPlan",
    "ViewSource",
    "ViewSpec",
    "ViewSteps",
    "WholeImage",
    "box_crop",
    "draw_pose",
    "draw_shape",
    "load_steps",
    "make_view",
    "paint_map",
    "photometric",
    "warp_image",
    "warp_mask",
    "whole",
]
