//! Restores into real folders.
