//! `backupengine-server`: arguments, and which part runs. Secrets never come by argument.
#![forbid(unsafe_code)]

mod command;

use clap::Parser;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    match command::Arguments::parse().run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Straight to the person who typed it: logging may not have started.
            use std::io::Write;
            drop(writeln!(std::io::stderr().lock(), "error: {error}"));
            ExitCode::FAILURE
        }
    }
}
