"""Devices: the axis that shards rows, id tables, tile sizes, compiled programs."""
