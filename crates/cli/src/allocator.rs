//! How much memory the system's allocator keeps of what the program gave back.
//!
//! **What it is.** The GNU C library makes an arena for every few threads and raises its thresholds with the largest
//! block that was freed; a mount that reads with 32 threads kept 452 MiB that way of which it used a third. Two arenas,
//! and fixed thresholds. Elsewhere nothing is done.
//! **What it may not do.** Anything else: here stands the only unsafe code of the workspace, since the library has no
//! other door that works after the process began.
//! **What always holds.** Where the library refuses, the program works all the same. **Where it is tested.** By the
//! memory a mount takes (`tests/cli`, `account_hard`); the figures are the bench's.
//!
//! *Measured* (2026-11-29, two cores; before and after): a mount that read everything 222 and 113 MiB from a folder, 239 and
//! 172 from afar, 452 and 158 where it read live files; a push of 20 000 files 68 and 59 MiB; all speeds alike or
//! better, since pages are not given back and faulted in again for each block of a file.
//! From 1 to 4 MB as the longest block that is kept (2026-11-30): a range of 1 MiB was mapped, faulted in and given back each
//! time. Reading a file from afar took 0.35 and 0.30 s of processor time and came with 301 and 324 MiB/s (medians of 15 in
//! turn); a mount takes as much as before (115 MiB, 173 from afar), a push 92 to 98 MiB instead of 90 to 95.

/// Arenas: one a core of a small machine; reading waits for disks and networks, not for the allocator.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS: i32 = 2;
/// Longer blocks are mapped by themselves and given back at once, in bytes: nothing that comes often is as long, neither a
/// frame nor a chunk of the usual size nor a range that was fetched.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED: i32 = 4_000_000;
/// What is free at the end of an arena beyond this is given back, in bytes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: i32 = 8_000_000;

/// Tells the allocator. To be called before anything else.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)] // see the module
pub(crate) fn keep_little() {
    for (what, value) in
        [(libc::M_ARENA_MAX, ARENAS), (libc::M_MMAP_THRESHOLD, MAPPED), (libc::M_TRIM_THRESHOLD, KEPT)]
    {
        // SAFETY: it takes two integers, may be called at any time, and touches nothing that is in use.
        unsafe { libc::mallopt(what, value) };
    }
}

/// Nothing to tell.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep_little() {}
