"""From faces to batches: annotations, task splits, the record schema, tf.data inputs, public sets."""
