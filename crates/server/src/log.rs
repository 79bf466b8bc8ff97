//! Structured logs without secrets: one JSON object a line, on stderr.
//!
//! May not let another crate speak below a warning: HTTP libraries print headers and addresses there, drivers print
//! statements with their values, and each of those may hold a token, a password, a code or a grant.
//! What always holds: no level that can be chosen shows them. Tested in `tests/server` with the most verbose one.
use crate::ServerError;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The variable that chooses the level.
pub const SETTING: &str = "BACKUPENGINE_LOG";

/// Crates that see signed addresses and headers even in what they warn of.
const SILENT: &[&str] =
    &["hyper", "hyper_util", "reqwest", "h2", "s3s", "s3s_fs", "tokio_postgres", "rustls"];

/// Starts logging at a level (`error`, `warn`, `info`, `debug`, `trace`), or at `usual` where none is said.
///
/// # Errors
/// [`ServerError::Setting`].
pub fn start(level: Option<&str>, usual: Level) -> Result<(), ServerError> {
    let level = match level {
        None | Some("") => usual,
        Some(text) => text.parse().map_err(|_| ServerError::Setting {
            setting: SETTING.to_owned(),
            problem: "it has to be error, warn, info, debug or trace".to_owned(),
        })?,
    };
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_writer(std::io::stderr);
    let started = tracing_subscriber::registry().with(lines).with(filter(level)).try_init();
    started.map_err(|cause| ServerError::Other(format!("logging does not start: {cause}")))?;
    // What a panic says may quote what it was given: where it was is enough.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|place| format!("{}:{}", place.file(), place.line()));
        tracing::error!(place, "panic");
    }));
    Ok(())
}

fn filter(level: Level) -> Targets {
    let others = LevelFilter::from_level(level).min(LevelFilter::ERROR);
    let filter = Targets::new().with_default(others).with_target("backupengine_server", level);
    SILENT.iter().fold(filter, |filter, name| filter.with_target(*name, LevelFilter::OFF))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_crates_are_held_at_every_level() {
        for level in [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE] {
            let filter = filter(level);
            assert!(filter.would_enable("backupengine_server::functions", &level), "{level}");
            for name in
                ["hyper::proto", "reqwest::connect", "s3s::ops", "tokio_postgres::query", "s3s_fs::s3"]
            {
                assert!(!filter.would_enable(name, &Level::ERROR), "{name} at {level}");
            }
            assert!(!filter.would_enable("anything_else", &Level::WARN), "{level}");
        }
    }
}
