"""Reading image files: PNG, JPEG, TIFF, DICOM ... become one gray uint8 array.

``reading.py`` reads any of them, ``dicom.py`` and ``tiff.py`` what is special to two formats;
``intensity.py`` makes 8 bits of 16, ``integrity.py`` says what is damaged.
"""

from medsgssl.images.reading import read_image

__all__ = ["read_image"]
