"""What every other room builds on: files and folders."""
