"""One file per version. A released file is not changed, and it imports no other module of this project."""
