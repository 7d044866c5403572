"""What ETSAM and membrane-tiny share: training data, clips and losses."""
