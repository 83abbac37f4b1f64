"""The instruments: the protocol, the rivals, and the questions asked of a memory."""
