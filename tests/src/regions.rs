//! Three deployments with one directory: us, ca, eu, each with a database and a bucket of its own.
use crate::account::{DevConfig, Server};
use crate::relay::Relay;
use backupengine_api::Directory;

/// Names of regions, in the order of [`three`].
pub const NAMES: [&str; 3] = ["us", "ca", "eu"];

/// One deployment.
pub struct Region {
    /// `us`, `ca` or `eu`.
    pub name: &'static str,
    /// Behind its relays.
    pub server: Server,
    // After what calls them.
    _before: [Relay; 2],
}

/// All three; each serves the same directory.
pub fn three() -> [Region; 3] {
    // A relay's address is known before the server behind it starts.
    let relays = NAMES.map(|name| (name, Relay::start(), Relay::start()));
    let regions = relays.iter().map(|(name, control, _)| ((*name).to_owned(), control.base().to_owned()));
    let directory = Directory { regions: regions.collect() };
    relays.map(|(name, control, storage)| {
        let here = |dev: &mut DevConfig| name.clone_into(&mut dev.region);
        let server =
            Server::behind(&control, &storage, here, |config| config.directory.clone_from(&directory));
        Region { name, server, _before: [control, storage] }
    })
}
