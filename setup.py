"""What setup.cfg cannot say: the sample corpus and the published networks are installed inside fer_tf."""

from setuptools import find_packages, setup

COMMANDS_AND_LIBRARY = ["fer_tf*", "beam_pipelines*", "trainer*", "serving*"]
# They keep their places in the repository; fer_tf/resources.py finds them in both.
RESOURCES = {"fer_tf.samples": "samples", "fer_tf.pretrained": "models/pretrained", "fer_tf.ferplus": "models/ferplus"}

setup(
    packages=[*find_packages(include=COMMANDS_AND_LIBRARY), *RESOURCES],
    package_dir=RESOURCES,
    package_data={
        "": ["*.j2", "*.html", "*.js", "*.css", "*.json"],
        "fer_tf.reports": ["templates/*.j2"],
        "fer_tf.samples": ["*.csv", "*.jpg", "*.md", "**/*.mp4"],
        "fer_tf.pretrained": ["*.h5", "*.md"],
        "fer_tf.ferplus": ["*.h5", "*.md"],
    },
)
