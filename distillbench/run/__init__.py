"""Running a plan: `driver` walks stages, `worker` runs one, `local` and `ray` give it a place."""
