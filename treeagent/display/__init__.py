"""Progress lines, the live tree and SVG pictures."""
