"""What Kaskad keeps: messages, persons, remembered answers and the entries of its streams."""
