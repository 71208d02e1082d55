"""Where the sample corpus and the published networks lie: in the checkout, or inside the installed package."""

from __future__ import annotations

import importlib.util
import os

from fer_tf.errors import InputError, not_one_of

# Name and place in the checkout; in an installed package (setup.py) each lies in fer_tf under its name.
_IN_CHECKOUT = {
    "samples": "samples",
    "pretrained": os.path.join("models", "pretrained"),
    "ferplus": os.path.join("models", "ferplus"),
}
# The Fa-Nets among them: FER2013's own labels, and the votes of FER+.
PUBLISHED = ("pretrained", "ferplus")


def resource(name: str) -> str:
    """Returns the absolute path of a folder that comes with the project, from whatever folder the command runs.

    Args:
      name: `samples`, the corpus of rendered people with its annotations.csv, or a published Fa-Net (PUBLISHED).

    Raises:
      InputError: when the project has no such folder, or it was not installed with it.
    """
    if name not in _IN_CHECKOUT:
        raise not_one_of("resource", name, _IN_CHECKOUT)
    package = os.path.dirname(os.path.abspath(__file__))
    installed = os.path.join(package, name)
    return installed if os.path.isdir(installed) else os.path.join(os.path.dirname(package), _IN_CHECKOUT[name])


def samples_folder(folder: str = "samples") -> str:
    """Returns a command's folder of clips: `samples` means the project's own where there is none in this folder."""
    return resource("samples") if folder == "samples" and not os.path.isdir(folder) else folder


def in_package(package: str, *path: str) -> str:
    """Returns the path of a file in an installed package, which is not imported for it.

    Args:
      package: such as `mtcnn`, whose import would build networks, or `face_recognition_models`, whose fails today.
      path: the names below it.

    Raises:
      InputError: when the package is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"the package {package}, whose {path[-1]} is needed, is missing; run `make setup` to install it."
        )
    return os.path.join(spec.submodule_search_locations[0], *path)
