"""Sources of rows to rows that were checked: files, URLs, the Hub, filters; rows on disk."""
