"""Running a trained model over images: scores, features, maps, and exports for other programs.

``predictor.py`` scores image files, ``maps.py`` shows where a classifier looks, ``export.py``
writes plain timm weights, TorchScript or ONNX.
"""
