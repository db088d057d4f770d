"""A page in the browser that segments images by words and by clicks."""
