"""Health: what is known of each account, the score that follows from it, and the band that follows the score."""
