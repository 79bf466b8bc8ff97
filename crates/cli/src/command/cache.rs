//! `cache`: what rests on this device's disk of an account's vault.
use crate::args::Cache;
use crate::cache;
use crate::error::{Failure, Outcome};
use crate::output::{self, count, shown_path, size};
use crate::wire::Wire;
use serde_json::Map;

/// Shows the cache, or empties it. Mounts go on meanwhile, and see it.
///
/// # Errors
/// Where the vault has none, or its folder cannot be used.
pub(crate) fn run(wire: &Wire, what: Cache) -> Result<Outcome, Failure> {
    let vault = cache::vault(wire)?;
    let folder = cache::folder(&wire.places.cache, vault);
    let cache = cache::open(&wire.places.cache, vault, None)?;
    let mut object = Map::new();
    object.insert("vault".into(), vault.to_string().into());
    output::put_path(&mut object, "path", folder.as_os_str().as_encoded_bytes());
    let freed = match what {
        Cache::Info => None,
        Cache::Clear => Some(cache.clear()?),
    };
    let info = cache.info();
    if wire.global.json {
        if let Some(freed) = freed {
            object.insert("bytes_freed".into(), freed.into());
        } else {
            object.insert("bytes_most".into(), info.size.into());
            object.insert("bytes_on_disk".into(), info.on_disk.into());
            object.insert("blocks".into(), info.blocks.into());
            object.insert("bytes".into(), info.bytes.into());
        }
        output::json(&object.into())?;
    } else if let Some(freed) = freed {
        if !wire.global.quiet {
            output::line(format!("the cache is empty; {} are free again", size(freed)))?;
        }
    } else {
        output::line(format!("cache      {}", shown_path(&folder)))?;
        let blocks = count(info.blocks, "block", "blocks");
        output::line(format!("holds      {} in {blocks}, sealed", size(info.bytes)))?;
        output::line(format!("takes      {} of the disk, {} at most", size(info.on_disk), size(info.size)))?;
    }
    Ok(Outcome::Done)
}
