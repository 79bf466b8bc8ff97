//! `status --top`: what the running mounts are doing, once a second on a terminal, once for everybody else.
use crate::error::{Failure, Outcome};
use crate::output::{self, count, shown, size};
use crate::telling;
use crate::wire::Wire;
use serde_json::Value;
use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Shows what the mounts of this user tell. Opens no vault and asks no server.
///
/// # Errors
/// When nothing can be asked or printed.
pub(crate) fn run(wire: &Wire) -> Result<Outcome, Failure> {
    if wire.global.json {
        output::json(&telling::ask_all(&wire.places.state)?.into())?;
        return Ok(Outcome::Done);
    }
    let moves = std::io::stdout().is_terminal() && !wire.global.no_progress && !wire.global.quiet;
    let mut before: HashMap<u64, (Instant, u64)> = HashMap::new();
    loop {
        let told = telling::ask_all(&wire.places.state)?;
        let now = Instant::now();
        let mut text = String::new();
        for mount in &told {
            let (pid, fetched) = (number(mount, "pid"), number(mount, "bytes_fetched"));
            let rate = before.insert(pid, (now, fetched)).map(|(then, was)| {
                let seconds = (now - then).as_secs_f64().max(0.001);
                (fetched.saturating_sub(was) as f64 / seconds) as u64
            });
            show(mount, rate, &mut text);
        }
        if told.is_empty() {
            text.push_str("nothing is mounted\n");
        }
        if !moves {
            output::print(text.as_bytes())?;
            return Ok(Outcome::Done);
        }
        // From the top left, each line to its end, and whatever was below.
        let screen = text.replace('\n', "\x1b[K\n");
        output::print(format!("\x1b[H{screen}\x1b[J").as_bytes())?;
        if wire.sleep(Duration::from_secs(1)).is_err() {
            return Ok(Outcome::Done);
        }
    }
}

fn number(object: &Value, field: &str) -> u64 {
    object[field].as_u64().unwrap_or(0)
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or("?")
}

fn show(mount: &Value, rate: Option<u64>, out: &mut String) {
    let mut line = |what: &str, text: String| out.push_str(&format!("{what:<10} {text}\n"));
    let (pid, up) = (number(mount, "pid"), time(mount["seconds"].as_f64().unwrap_or(0.0)));
    line("mount", format!("{}, process {pid}, for {up}", shown(text(mount, "mountpoint").as_bytes())));
    let far = mount["network"].as_bool() == Some(true);
    let ahead =
        if far { format!(", {} of it ahead", size(number(mount, "bytes_ahead"))) } else { String::new() };
    let rate = rate.map_or_else(String::new, |rate| format!(", {}/s now", size(rate)));
    let under_way = match number(mount, "under_way") {
        0 => String::new(),
        ranges => format!(", {} on their way", count(ranges, "range", "ranges")),
    };
    let fetched = size(number(mount, "bytes_fetched"));
    line(if far { "network" } else { "disk" }, format!("{fetched} fetched{ahead}{rate}{under_way}"));
    if far {
        let [disk, memory, missed] =
            ["blocks_on_disk", "blocks_in_memory", "blocks_missed"].map(|field| number(mount, field));
        let hits = (disk + memory) * 100 / (disk + memory + missed).max(1);
        let held = format!("{} on disk, {} in memory", output::grouped(disk), output::grouped(memory));
        line("blocks", format!("{held}, {} waited for: {hits} % were here", output::grouped(missed)));
    }
    if let Some(since) = mount["unreachable_seconds"].as_f64() {
        line("store", format!("not reached for {}", time(since)));
    }
    if let Some(queued) = mount["queued"].as_u64().filter(|queued| *queued > 0) {
        line("queued", count(queued, "request waits for its turn", "requests wait for their turn"));
    }
    for request in mount["requests"].as_array().into_iter().flatten() {
        let program = shown(text(request, "program").as_bytes()).into_owned();
        let path = request["path"]
            .as_str()
            .map_or_else(String::new, |path| format!(" of {}", shown(path.as_bytes())));
        let waits = time(request["seconds"].as_f64().unwrap_or(0.0));
        let why = match text(request, "why") {
            "fetching" => "it is being fetched",
            "queued" => "others are fetched first",
            "unreachable" => "the store is not reached",
            _ => "it is being opened",
        };
        let (pid, what) = (number(request, "pid"), text(request, "what"));
        line("waits", format!("{program} (process {pid}) for {waits}, {what}{path}: {why}"));
    }
}

/// A span for people.
fn time(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_mount_is_shown_with_what_waits_and_why() {
        let mount = json!({
            "mountpoint": "/m\u{1b}[2J", "pid": 7, "network": true, "seconds": 3725.0, "bytes_fetched": 3 << 20,
            "bytes_ahead": 1 << 20, "under_way": 2, "blocks_on_disk": 6, "blocks_in_memory": 3, "blocks_missed": 1,
            "queued": 1, "unreachable_seconds": 61.5,
            "requests": [{ "program": "cat", "pid": 8, "what": "read", "path": "/a", "seconds": 2.04,
                           "why": "unreachable" }],
        });
        let mut out = String::new();
        show(&mount, Some(2048), &mut out);
        assert_eq!(
            out,
            "mount      /m\\u{1b}[2J, process 7, for 1 h 2 min\n\
             network    3.00 MiB fetched, 1.00 MiB of it ahead, 2.00 KiB/s now, 2 ranges on their way\n\
             blocks     6 on disk, 3 in memory, 1 waited for: 90 % were here\n\
             store      not reached for 1 min 1 s\n\
             queued     1 request waits for its turn\n\
             waits      cat (process 8) for 2.0 s, read of /a: the store is not reached\n"
        );
    }
}
