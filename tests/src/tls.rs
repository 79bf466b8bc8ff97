//! TLS for tests: an authority of one's own, and an address with TLS before one without.
//!
//! **What it may not do.** Touch the system's own authorities: programs are shown this one by `SSL_CERT_FILE`.
//! **What always holds.** TLS 1.3 only; bytes go through unchanged, so signatures over them hold.
//! **Where it is tested.** `tests/server/tls.rs`, `tests/cli/account_rebuilt.rs`.

use crate::account::Server;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::version::TLS13;

/// Signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// One that nobody knows yet.
    #[allow(clippy::new_without_default, reason = "each is another one")]
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let key = KeyPair::generate().unwrap();
        // Each has a name of its own, as real ones have.
        let name: String = key.public_key_raw().iter().map(|byte| format!("{byte:02x}")).take(16).collect();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Its own certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// The same in a file.
    pub fn write(&self, folder: &Path, name: &str) -> PathBuf {
        std::fs::write(folder.join(name), self.pem()).unwrap();
        folder.join(name)
    }

    /// Chain and key for a host.
    pub fn issue(&self, folder: &Path, host: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let (chain, file) = (folder.join("chain.pem"), folder.join("key.pem"));
        std::fs::write(&chain, certificate.pem()).unwrap();
        std::fs::write(&file, key.serialize_pem()).unwrap();
        (chain, file)
    }
}

/// Serves `https://localhost:PORT` before what listens at `plain`, until the server ends; gives that address.
pub fn before(server: &Server, plain: SocketAddr, authority: &Authority, folder: &Path) -> String {
    let (chain, key) = authority.issue(folder, "localhost");
    let chain = CertificateDer::pem_file_iter(chain).unwrap().map(Result::unwrap).collect();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    server.wait(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(tokio::spawn(pass(acceptor.clone(), stream, plain)));
            }
        }));
        format!("https://localhost:{port}")
    })
}

/// One connection. Whoever broke it off notices.
async fn pass(acceptor: TlsAcceptor, stream: TcpStream, to: SocketAddr) -> std::io::Result<()> {
    let mut outside = acceptor.accept(stream).await?;
    let mut inside = TcpStream::connect(to).await?;
    tokio::io::copy_bidirectional(&mut outside, &mut inside).await.map(drop)
}
