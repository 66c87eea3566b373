"""The served model's folder: configuration and tokenizer of a known architecture, without weights."""
