"""What users ask for: networks, endpoints, services."""
