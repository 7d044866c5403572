"""HTML pages and pictures of files."""
