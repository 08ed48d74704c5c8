"""What this provider relies on of the tuning API, written once and asked of two servers: the emulator and Google."""
