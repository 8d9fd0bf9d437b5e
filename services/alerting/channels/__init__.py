"""One module for each way an alert goes out."""
