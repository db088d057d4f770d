"""What every other part of the package stands on; none of it is public."""
