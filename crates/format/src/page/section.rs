//! Framing of sections: tag, length, bytes, ascending; bit 7 of a tag marks a critical one.
