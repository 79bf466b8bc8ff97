//! Authentic and wrong.
