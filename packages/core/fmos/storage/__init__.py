"""Opens the kernel's own database files and runs their migrations."""
