"""A blind study: pairs of samples that people judge, and what their judgements say."""
