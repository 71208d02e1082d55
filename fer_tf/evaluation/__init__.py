"""Numbers alone: scores, calibration, intervals, agreement, saliency; what a person reads is `fer_tf.reports`."""
