"""Drawing code: 24 nameable things on textured grounds, in four rendering styles."""
