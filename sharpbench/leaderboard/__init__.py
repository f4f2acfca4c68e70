"""The published leaderboard: pages, plots and a site, as pure functions of the record files in a folder."""
