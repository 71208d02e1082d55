"""Serving: export, an embedded TensorFlow Serving compatible server, its client and a demo page."""
