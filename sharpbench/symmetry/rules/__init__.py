"""How the scales of parameters pass each ATen operator: the rules by which the rescaling group is found."""
