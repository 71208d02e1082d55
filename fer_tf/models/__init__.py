"""The networks: LightCNN (Fa-Net), FaPE-GAN, and their losses."""
