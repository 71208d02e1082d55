"""Facial expression recognition over many poses: faces, data, models and evaluation.

`import fer_tf` is instant: TensorFlow, OpenCV and dlib are imported where they are used.
"""

__version__ = "0.1.0"
