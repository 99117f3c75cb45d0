"""Label sets: class names and colors, maps between ids, and conversions between label sets."""
