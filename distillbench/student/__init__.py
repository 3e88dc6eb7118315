"""A trained student on disk: its files, its export in diffusers' format, its model card."""
