"""What happens at each path."""
