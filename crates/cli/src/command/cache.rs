//! `cache`: what rests on this device's disk of an account's vault.
use crate::args::Cache;
use crate::cache;
use crate::command::cache_pin;
use crate::error::{Failure, Outcome};
use crate::output::{self, count, shown, shown_path, size};
use crate::pins::{self, Pin};
use crate::wire::Wire;
use backupengine_model::VaultId;
use backupengine_store::DiskCache;
use serde_json::{Map, Value};

/// Shows the cache, empties it, or keeps trees in it. Mounts go on meanwhile, and see it.
///
/// # Errors
/// Where the vault has none, or its folder cannot be used.
pub(crate) fn run(wire: &Wire, what: &Cache) -> Result<Outcome, Failure> {
    let vault = cache::vault(wire)?;
    match what {
        Cache::Info => info(wire, vault, &cache::open(&wire.places.cache, vault, None)?),
        Cache::Clear => clear(wire, vault, &cache::open(&wire.places.cache, vault, None)?),
        Cache::Pin(args) => cache_pin::pin(wire, vault, args),
        Cache::Unpin(args) => cache_pin::unpin(wire, vault, args),
    }
}

/// What every answer begins with.
fn object(wire: &Wire, vault: VaultId) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("vault".into(), vault.to_string().into());
    let folder = cache::folder(&wire.places.cache, vault);
    output::put_path(&mut object, "path", folder.as_os_str().as_encoded_bytes());
    object
}

fn info(wire: &Wire, vault: VaultId, cache: &DiskCache) -> Result<Outcome, Failure> {
    let info = cache.info();
    let pinned = pins::all(cache, cache_pin::own_keyring(wire)?.as_ref())?;
    if wire.global.json {
        let mut object = object(wire, vault);
        object.insert("bytes_most".into(), info.size.into());
        object.insert("bytes_on_disk".into(), info.on_disk.into());
        object.insert("blocks".into(), info.blocks.into());
        object.insert("bytes".into(), info.bytes.into());
        object.insert("bytes_pinned".into(), info.pinned_bytes.into());
        let pins: Vec<Value> = pinned.iter().map(|pin| cache_pin::put(pin).into()).collect();
        object.insert("pins".into(), pins.into());
        output::json(&object.into())?;
        return Ok(Outcome::Done);
    }
    let folder = cache::folder(&wire.places.cache, vault);
    output::line(format!("cache      {}", shown_path(&folder)))?;
    let blocks = count(info.blocks, "block", "blocks");
    output::line(format!("holds      {} in {blocks}, sealed", size(info.bytes)))?;
    output::line(format!("takes      {} of the disk, {} at most", size(info.on_disk), size(info.size)))?;
    for Pin { set, snapshot, path } in &pinned {
        let path = path.as_ref().map_or("(sealed)".into(), |path| shown(path));
        let held = if set.held == set.blocks {
            "all of it is here".to_owned()
        } else {
            format!("{} of {} are here", output::grouped(set.held), count(set.blocks, "block", "blocks"))
        };
        output::line(format!("pinned     {snapshot}:{path}, {held}"))?;
    }
    Ok(Outcome::Done)
}

fn clear(wire: &Wire, vault: VaultId, cache: &DiskCache) -> Result<Outcome, Failure> {
    let freed = cache.clear()?;
    if wire.global.json {
        let mut object = object(wire, vault);
        object.insert("bytes_freed".into(), freed.into());
        output::json(&object.into())?;
    } else if !wire.global.quiet {
        let pinned = cache.info().pinned_bytes;
        let what = match pinned {
            0 => "the cache is empty".to_owned(),
            bytes => format!("the cache is empty but for {} that are pinned", size(bytes)),
        };
        output::line(format!("{what}; {} are free again", size(freed)))?;
    }
    Ok(Outcome::Done)
}
