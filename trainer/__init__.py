"""Training commands: FaPE-GAN, synthesis, Fa-Net and evaluation of a task."""
