//! `backupengine-server`: arguments, and which part runs.
#![forbid(unsafe_code)]

fn main() {}
