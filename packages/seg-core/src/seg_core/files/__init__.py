"""Files: how images and masks become pixels and ids."""
