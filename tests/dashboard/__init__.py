"""The dashboard: what it keeps and sends, whom it answers, and the page in a browser."""
