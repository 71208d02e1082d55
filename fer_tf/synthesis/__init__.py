"""FaPE-GAN's faces for a task: which to make, making and judging them, and the record files they go into."""
