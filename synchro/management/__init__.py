"""Django's place for the commands, and what they share."""
