"""Networks and their weights; tensors in, tensors out."""
