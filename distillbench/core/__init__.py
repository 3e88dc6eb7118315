"""The mathematics: pure functions of tensors beside the papers' equations; knows no other room."""
