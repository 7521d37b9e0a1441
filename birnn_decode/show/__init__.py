"""What people look at: tables of answers and pictures of searches."""
