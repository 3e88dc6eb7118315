"""What families of methods share: called by the methods, never calling back."""
