"""What is trained on and evaluated apart from traffic: preferences, cases, and their exports."""
