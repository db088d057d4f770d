"""What a page and a notebook view to click in share: clicks, a control per option, the code."""
