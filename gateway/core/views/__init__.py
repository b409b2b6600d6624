"""What an app is shown of records, over HTTP and in its webhooks. Pure."""
