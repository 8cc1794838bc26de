"""A policy for robots: openpi's websocket protocol and its dialects, several clients, one network."""
