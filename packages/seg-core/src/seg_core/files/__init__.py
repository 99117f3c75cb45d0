"""Reading and writing files: images, masks, rasters, downloads."""
