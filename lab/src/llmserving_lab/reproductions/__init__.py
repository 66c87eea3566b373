"""What the papers behind the laws claim, repeated on the bench."""
