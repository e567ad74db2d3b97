"""Where a data set lies, and where what is made from it is kept."""

from __future__ import annotations

from pathlib import Path

import platformdirs

from medsgssl.config.schema import DataSettings
from medsgssl.errors import ConfigError, DataError
from medsgssl.utils.io import fingerprint


def data_root(settings: DataSettings) -> Path:
    """Return the absolute folder of the data set.

    Raises:
        ConfigError: None is named.
    """
    if settings.root is None:
        raise ConfigError("no data folder is named", "give one with --data FOLDER")
    return settings.root.expanduser().absolute()


def require_folder(root: Path) -> None:
    """Check that the folder of a data set is there.

    Raises:
        DataError: It is not, or is a file.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder", "name the folder of its images and tables")


def dataset_cache(settings: DataSettings) -> Path:
    """Return the data set's own folder below the cache directory; it need not exist.

    The name is that of the data folder and a hash of its absolute path, so that two sets never
    share a place.

    Raises:
        ConfigError: No data folder is named.
    """
    root = data_root(settings).resolve()
    above = settings.cache_dir or Path(platformdirs.user_cache_dir("medsgssl"))
    return above.expanduser().absolute() / f"{root.name}-{fingerprint(str(root))}"
