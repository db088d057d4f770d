"""What ten million images cost: the steps of one image, measured, and the arithmetic from there."""
