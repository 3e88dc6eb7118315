"""The one training loop: `loop` steps and resumes, `role` is a learning network, `build` begins."""
