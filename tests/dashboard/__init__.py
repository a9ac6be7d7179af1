"""The dashboard: what it keeps of each account, what it sends, whom it answers, and the page in a browser."""
