"""What the particle methods that build on SAM share: model files, data and training."""
