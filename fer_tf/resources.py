"""Where the sample corpus and the published networks lie: in the checkout, or inside the installed package."""

from __future__ import annotations

import os

from fer_tf.errors import not_one_of

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
