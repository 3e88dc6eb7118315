"""The one training loop: `loop` steps and resumes, `role` is a network that learns, `build` begins."""
