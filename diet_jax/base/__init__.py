"""What every package needs: errors, files written whole, progress, config files, kept results."""
