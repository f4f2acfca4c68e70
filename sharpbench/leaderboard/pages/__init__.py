"""The pages of the published leaderboard, one module each, and the links between them."""
