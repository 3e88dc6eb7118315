"""Teachers, one file each; files with an underscore hold what they share."""
