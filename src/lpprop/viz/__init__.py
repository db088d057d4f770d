"""Pictures: colours, overlays, sheets."""
