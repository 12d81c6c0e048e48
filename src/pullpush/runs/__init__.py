"""The run folder: its configuration, its log, its checkpoints; one writer and one reader."""
