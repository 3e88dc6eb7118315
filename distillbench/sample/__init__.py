"""Drawing a student's samples. The samplers themselves, and their NFE, are in `api.sampler`."""
