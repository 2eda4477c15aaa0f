"""Attention and recurrent layers made of linear ones."""
