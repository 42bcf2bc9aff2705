"""What other programs read: Atom feeds, the sitemap, robots.txt and the pictures of shared links."""
