"""What runs beside the engines."""
