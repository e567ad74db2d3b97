"""Reading image files: PNG, JPEG and DICOM become one gray uint8 array."""

from medsgssl.images.reading import read_image

__all__ = ["read_image"]
