"""A view to click on in notebooks: `lpprop.interact`."""
