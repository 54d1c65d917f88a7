"""What is done to a call, one file each; pipeline.py gives the order."""
