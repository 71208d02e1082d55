"""From a frame to an aligned face: decode, keyframes, detection, landmarks, alignment, mask."""
