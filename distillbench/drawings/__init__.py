"""The harder picture world: 24 nameable things on textured grounds, in four rendering styles.

Captions may leave attributes unsaid, so that one has many right pictures. The shipped networks are
of the first world (`distillbench.world`); trainings on this one have its pictures and captions from
here. `python -m distillbench.tiny_training show --world drawings` draws a sheet of them.
"""
