"""Published data and weights: finding, fetching and checking them."""
