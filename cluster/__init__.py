"""Outgrowing one machine: a Flink on loopback, its worker processes, and a launcher for training on several workers."""
