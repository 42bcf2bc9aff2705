"""What a publish reads and writes in the database, and the rules that it checks there."""
