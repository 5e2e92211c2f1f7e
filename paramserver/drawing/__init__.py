"""Pictures and pages as text: SVG charts and HTML that need no script, no file and no network."""
