"""Pages and pictures of files."""
