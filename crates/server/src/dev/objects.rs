//! An S3-compatible store on loopback in this process, for development: it has neither versions nor locks.
use super::checked::Checked;
use super::io;
use crate::ServerError;
use crate::config::Secret;
use crate::serve::{self, Serving};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use std::net::Ipv4Addr;
use std::path::Path;
use tokio::net::TcpListener;

pub(super) const ACCESS_KEY: &str = "backupengine-dev";
/// May delete, and does nothing else.
pub(super) const SWEEP_KEY: &str = "backupengine-dev-sweep";

/// Serves `root`, in which `bucket` is made if need be. `port` is a file that keeps where it listens.
pub(super) async fn start(
    root: &Path,
    port: &Path,
    bucket: &str,
    secret: &Secret,
    sweep: &Secret,
) -> Result<Serving, ServerError> {
    std::fs::create_dir_all(root.join(bucket)).map_err(io(format!("making {}", root.display())))?;
    let files = s3s_fs::FileSystem::new(root)
        .map_err(|cause| ServerError::Storage(format!("{} cannot be served: {cause:?}", root.display())))?;
    let mut builder = S3ServiceBuilder::new(Checked::new(files));
    let mut keys = SimpleAuth::from_single(ACCESS_KEY, secret.expose());
    keys.register(SWEEP_KEY.to_owned(), sweep.expose().into());
    builder.set_auth(keys);
    let service = builder.build();
    let listener = listen(port).await.map_err(io("listening for the store of --dev"))?;
    let address = listener.local_addr().map_err(io("asking for the port of the store of --dev"))?;
    std::fs::write(port, format!("{}\n", address.port()))
        .map_err(io(format!("writing {}", port.display())))?;
    serve::start(listener, None, move |_| service.clone()).map_err(io("listening for the store of --dev"))
}

/// Where it listened last, if that is free: grants name the address, and mounts hold them over a restart.
async fn listen(kept: &Path) -> std::io::Result<TcpListener> {
    let last = std::fs::read_to_string(kept).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    match TcpListener::bind((Ipv4Addr::LOCALHOST, last)).await {
        Err(_) if last != 0 => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await,
        bound => bound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_listens_where_it_did_if_that_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("store-port");
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let first = listen(&kept).await.unwrap();
        let last = port(&first);
        std::fs::write(&kept, format!("{last}\n")).unwrap();
        assert_ne!(port(&listen(&kept).await.unwrap()), last, "somebody listens there");
        drop(first);
        assert_eq!(port(&listen(&kept).await.unwrap()), last);
        std::fs::write(&kept, "no port").unwrap();
        listen(&kept).await.unwrap();
    }
}
