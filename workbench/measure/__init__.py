"""One pass over the data: moments, scores, gradients."""
