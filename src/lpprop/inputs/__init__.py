"""What a call is given beside the scores, and how it is made."""
