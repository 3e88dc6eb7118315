"""Training of the tiny world's models: one module a model, one resumable loop for all."""
