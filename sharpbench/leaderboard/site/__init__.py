"""The leaderboard as static HTML, which needs no server and loads nothing from elsewhere."""
