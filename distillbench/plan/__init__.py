"""From points to stages: what each reads, its content key, what it needs, what is cached.

`build.build_plan` is the door; `identity` says what goes into a key.
"""
