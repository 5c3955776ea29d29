"""Work over files: what `pellucid explain` and `pellucid demo` do."""
