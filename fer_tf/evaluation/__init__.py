"""What the numbers mean: metrics, calibration, saliency, figures, tables, the report."""
