"""The training engine: configuration, training, evaluation, checkpoints, records. It knows nothing of skeletons."""
