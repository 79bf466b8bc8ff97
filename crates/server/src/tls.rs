//! TLS 1.3 and nothing older, both to clients and to the database.
use crate::ServerError;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::path::Path;
use std::sync::Arc;

/// For listening.
pub(crate) fn server(chain: &Path, key: &Path) -> Result<Arc<ServerConfig>, ServerError> {
    let chain = certificates("BACKUPENGINE_TLS_CERT", chain)?;
    // What the reader says of a key is not repeated.
    let key = PrivateKeyDer::from_pem_file(key).map_err(|_| {
        problem("BACKUPENGINE_TLS_KEY", format!("{} holds no private key in PEM", key.display()))
    })?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|cause| problem("TLS", cause.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|cause| problem("BACKUPENGINE_TLS_CERT", cause.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// For the database: its chain is verified against `ca`, else against the system's own authorities, and its name.
pub(crate) fn client(ca: Option<&Path>) -> Result<ClientConfig, ServerError> {
    let mut roots = RootCertStore::empty();
    let setting = "BACKUPENGINE_DATABASE_CA";
    if let Some(path) = ca {
        for certificate in certificates(setting, path)? {
            let bad = |cause| problem(setting, format!("{}: {cause}", path.display()));
            roots.add(certificate).map_err(bad)?;
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            let none = "this system has no certificate authorities of its own: name a file of them";
            return Err(problem(setting, none.to_owned()));
        }
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|cause| problem("TLS", cause.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn certificates(setting: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, ServerError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|cause| problem(setting, format!("{}: {cause}", path.display())))?;
    if read.is_empty() {
        return Err(problem(setting, format!("{} holds no certificate in PEM", path.display())));
    }
    Ok(read)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn problem(setting: &str, problem: String) -> ServerError {
    ServerError::Setting { setting: setting.to_owned(), problem }
}
