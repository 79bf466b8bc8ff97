//! A vault in memory, for tests of everything above the port. As strict as the folder.
/// A vault in memory.
pub struct MemoryStore {
    _todo: (),
}
