"""Minimisation of the trace over the rescaling group: layer scales, unit scales, and infima that are not attained."""
