"""The tiny world: captioned pictures, the models trained on them, and their shipped weights."""
