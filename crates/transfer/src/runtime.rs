//! The one runtime of this crate, and how any thread waits for it.
//!
//! What always holds: started once, at the first use; a wait blocks the calling thread alone, whatever runtime that
//! thread may belong to. Tested with everything above it.
use crate::TransferError;
use std::future::Future;
use std::sync::{OnceLock, mpsc};
use tokio::runtime::{Builder, Handle, Runtime};

/// Threads that drive sockets; the work between them is small.
const WORKERS: usize = 2;

/// The runtime's handle.
pub(crate) fn handle() -> Result<Handle, TransferError> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let built = RUNTIME.get_or_init(|| {
        let builder =
            Builder::new_multi_thread().worker_threads(WORKERS).thread_name("transfer").enable_all().build();
        builder.map_err(|error| format!("the threads for the network could not be started: {error}"))
    });
    match built {
        Ok(runtime) => Ok(runtime.handle().clone()),
        Err(text) => Err(TransferError::System(text.clone())),
    }
}

/// Runs `work` on the runtime and waits for it on the calling thread.
pub(crate) fn wait<T: Send + 'static>(
    work: impl Future<Output = Result<T, TransferError>> + Send + 'static,
) -> Result<T, TransferError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    handle()?.spawn(async move { drop(sender.send(work.await)) });
    receiver.recv().unwrap_or_else(|_| Err(TransferError::System("the network's threads ended".to_owned())))
}
