"""Pictures of the loss around a network's weights, equal for networks that differ by a rescaling."""
