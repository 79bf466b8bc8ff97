//! LEB128, shortest form only, at most 10 bytes; zig-zag on top. A cursor over bytes for all decoders.
