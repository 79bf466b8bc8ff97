//! A blob on its way: a private file, written front to back, then put whole.
use std::io::{self, Write};
/// A private file that becomes a blob. Dropped without `put`, it leaves nothing behind.
pub struct Spool {
    _todo: (),
}
impl Spool {
    /// Bytes written so far.
    pub fn len(&self) -> u64 {
        todo!()
    }
    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
impl Write for Spool {
    fn write(&mut self, _buf: &[u8]) -> io::Result<usize> {
        todo!()
    }
    fn flush(&mut self) -> io::Result<()> {
        todo!()
    }
}
