"""Street images segmented by references: trained features, and a few labelled images."""
