"""Where the packages of the extra `embedded` keep their servers."""

import os
from importlib.util import find_spec
from pathlib import Path

from services.runtime.embedded.errors import Unavailable


def packaged_binary(package: str, distribution: str, pattern: str) -> Path:
    """The one executable in an installed package that matches the pattern; the package is not imported."""
    spec = find_spec(package)
    if spec is None:
        raise Unavailable(f"The package {distribution} is not installed; it comes with Steward's extra `embedded`.")
    found = [path for folder in spec.submodule_search_locations or () for path in Path(folder).glob(pattern)]
    if len(found) != 1:
        raise Unavailable(f"The package {distribution} has no server for this machine; use an external one.")
    if not os.access(found[0], os.X_OK):
        found[0].chmod(0o755)  # some installers drop the mode
    return found[0]
