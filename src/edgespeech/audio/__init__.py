"""Reading, resampling, features and noise: everything that touches samples."""
