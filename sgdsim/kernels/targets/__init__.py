"""What decorators and helpers of the pasted texts mean: one text a target, which modules begin with."""
