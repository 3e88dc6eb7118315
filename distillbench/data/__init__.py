"""What a training or a sampling reads: prompt sets, captioned pictures, batches by (seed, step)."""
