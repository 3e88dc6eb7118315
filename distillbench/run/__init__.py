"""Running a plan: `driver` walks the stages, `worker` runs one, `local` and `ray` lend it a place."""
